"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const options = {
    mode: "vega-lite",
    renderer: "svg",
    ast: true, // no code is made of texts: the page's policy forbids it
    actions: false,
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  };
  for (const [name, spec] of Object.entries(data.charts)) {
    const place = document.getElementById(name);
    const still = place.innerHTML;
    window.vegaEmbed(place, spec, options).then(
      () => {
        const svg = place.querySelector("svg");
        for (const part of svg.querySelectorAll("[role]")) part.removeAttribute("role");
        svg.setAttribute("role", "img");
        svg.setAttribute("aria-labelledby", `${name}-text`);
      },
      (error) => {
        place.innerHTML = still;
        console.error(error);
      },
    );
  }
})();
