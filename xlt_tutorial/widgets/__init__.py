"""Explorers of stored results: notebook 08's maps before and after training, linked and with their numbers.

``stored`` is the file of the maps, ``scene`` and ``tables`` say what a state of the view shows (no widget in them),
``explorer`` puts it on the screen, by ``patient``'s figure, and ``make`` computes the file anew.
"""

from xlt_tutorial.widgets.explorer import Explorer, explore
from xlt_tutorial.widgets.scene import static_map
from xlt_tutorial.widgets.stored import Maps, MapsError, read_maps

__all__ = ["Explorer", "Maps", "MapsError", "explore", "read_maps", "static_map"]
