// Shows the values under the pointer: the nearest sample of each chart.
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const source = document.querySelector(`script[data-for="${svg.dataset.chart}"]`);
  const data = JSON.parse(source.textContent);
  const pointer = svg.querySelector(".pointer");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = 0;
    for (let i = 1; i < data.x.length; i++) {
      if (Math.abs(data.x[i] - x) < Math.abs(data.x[nearest] - x)) nearest = i;
    }
    for (const end of ["x1", "x2"]) pointer.setAttribute(end, data.x[nearest]);
    pointer.setAttribute("visibility", "visible");
    const head = document.createElement("b");
    head.textContent = data.t[nearest];
    tip.replaceChildren(head, ...data.series.toReversed().map((series) => {
      const row = document.createElement("div");
      const swatch = document.createElement("i");
      const value = document.createElement("span");
      swatch.className = `b-${series.color}`;
      value.textContent = `${series.values[nearest].toLocaleString("en")} ${data.unit}`;
      row.append(swatch, series.label, value);
      return row;
    }));
    tip.hidden = false;
    const left = event.clientX + 16;
    tip.style.left = `${left + tip.offsetWidth > innerWidth ? event.clientX - tip.offsetWidth - 16 : left}px`;
    tip.style.top = `${event.clientY + 14}px`;
  });
  svg.addEventListener("pointerleave", () => {
    pointer.setAttribute("visibility", "hidden");
    tip.hidden = true;
  });
}
