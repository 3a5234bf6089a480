// Draws a figure with plotly when its button is pressed; the script is loaded once, from the site itself.
document.addEventListener("DOMContentLoaded", () => {
  const root = document.documentElement.dataset.content_root || "./";
  let loaded;
  function plotly() {
    loaded ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${root}_static/plotly.min.js`;
      script.onload = done;
      script.onerror = failed;
      document.head.append(script);
    });
    return loaded;
  }
  for (const figure of document.querySelectorAll(".xlt-figure")) {
    const button = figure.querySelector(".xlt-live"), picture = figure.querySelector("img");
    button.hidden = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await plotly();
        const { data, layout, frames, config } = JSON.parse(figure.querySelector("script").textContent);
        const place = document.createElement("div");
        place.setAttribute("role", "group");
        place.setAttribute("aria-label", picture.alt);
        picture.before(place);
        await Plotly.newPlot(place, { data, layout: { ...layout, width: undefined, autosize: true }, frames,
          config: { ...config, responsive: true } });
        picture.hidden = true;
        button.remove();
      } catch (error) {
        button.textContent = "The figure could not be drawn; the picture stays.";
      }
    });
  }
});
