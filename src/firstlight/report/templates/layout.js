// Plots stand side by side on a wide screen and one below the other on a narrow one; print shows what is folded away.
(() => {
  const narrow = matchMedia("(max-width: 640px)");
  const HEIGHT = 250, BETWEEN = 90; // pixels: of one plot, from it to the next

  function stacked(layout, count, names) {
    const LEGEND = Math.max(110, 50 + 20 * names); // below the last: a line a name, where names are long
    const inner = count * HEIGHT + (count - 1) * BETWEEN;
    const change = { height: inner + LEGEND + 40, "margin.b": LEGEND, "legend.y": -60 / inner };
    for (let i = 0; i < count; i++) {
      const top = 1 - (i * (HEIGHT + BETWEEN)) / inner, n = i ? i + 1 : "";
      change[`xaxis${n}.domain`] = [0, 1];
      change[`yaxis${n}.domain`] = [Math.max(0, top - HEIGHT / inner), top];
      change[`annotations[${i}].x`] = 0.5;
      change[`annotations[${i}].y`] = top;
    }
    return change;
  }

  function sideBySide(layout, count) {
    const change = { height: layout.height, "margin.b": layout.margin.b, "legend.y": layout.legend.y };
    for (let i = 0; i < count; i++) {
      const n = i ? i + 1 : "";
      for (const axis of ["xaxis", "yaxis"]) change[`${axis}${n}.domain`] = layout[axis + n].domain;
      for (const key of ["x", "y"]) change[`annotations[${i}].${key}`] = layout.annotations[i][key];
    }
    return change;
  }

  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    const first = JSON.parse(JSON.stringify(plot.layout));
    if (plot.closest(".picture")) continue; // small enough for any screen
    const count = Object.keys(first).filter((key) => /^xaxis\d*$/.test(key)).length;
    const names = plot.data.filter((trace) => trace.showlegend !== false).length;
    const arrange = () => {
      const change = (narrow.matches ? stacked : sideBySide)(first, count, names);
      plot.parentElement.style.height = "auto";
      plot.style.height = `${change.height}px`;
      Plotly.relayout(plot, change);
    };
    if (narrow.matches) arrange();
    narrow.addEventListener("change", arrange);
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
})();
