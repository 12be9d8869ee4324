"use strict";
(() => {
  const root = document.documentElement;
  const templates = JSON.parse(document.getElementById("templates").textContent);

  // Figures. Each stands beside its data; the template of the theme gives it its colours.

  const figures = [...document.querySelectorAll("figure")].map((figure) => ({
    plot: figure.querySelector(".plot"),
    ...JSON.parse(figure.querySelector("script").textContent),
    name: figure.querySelector("figcaption").textContent.replace(/[^\w.-]+/g, "_").slice(0, 80),
  }));

  function layout(figure) {
    const template = templates[root.dataset.theme];
    return { ...figure.layout, title: undefined, autosize: true, template };
  }

  // A saved picture is for a light page of somebody else's, and holds its title.
  function save(figure, format) {
    const { height = 400, margin } = figure.layout;
    const saved = {
      data: figure.data,
      layout: {
        ...figure.layout,
        template: templates.light,
        paper_bgcolor: "white",
        margin: { ...margin, t: 64 },
      },
    };
    Plotly.downloadImage(saved, { format, filename: figure.name, width: 900, height });
  }

  function settings(figure) {
    return {
      responsive: true,
      displaylogo: false,
      // plotly has a button, there by default, that sends a figure to its makers' cloud.
      showSendToCloud: false,
      plotlyServerURL: "",
      displayModeBar: true,
      modeBarButtonsToRemove: [
        "toImage", "lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d",
      ],
      modeBarButtonsToAdd: ["png", "svg"].map((format) => ({
        name: `save as ${format}`,
        icon: format === "png" ? Plotly.Icons.camera : Plotly.Icons.disk,
        click: () => save(figure, format),
      })),
    };
  }

  for (const figure of figures) {
    Plotly.newPlot(figure.plot, figure.data, layout(figure), settings(figure));
  }

  // Light and dark: the system's choice until the reader makes one.

  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");

  function show(theme) {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "☀ light" : "☾ dark";
    for (const figure of figures) {
      Plotly.react(figure.plot, figure.data, layout(figure), settings(figure));
    }
  }

  function follow() {
    show(system.matches ? "dark" : "light");
  }

  button.textContent = root.dataset.theme === "dark" ? "☀ light" : "☾ dark";
  system.addEventListener("change", follow);
  button.addEventListener("click", () => {
    system.removeEventListener("change", follow);
    show(root.dataset.theme === "dark" ? "light" : "dark");
  });

  // Paper is light, and narrower than most windows.

  let before = root.dataset.theme;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    show("light");
    for (const { plot } of figures) Plotly.relayout(plot, { width: 680 });
  });
  addEventListener("afterprint", () => {
    for (const { plot } of figures) Plotly.relayout(plot, { width: null, autosize: true });
    show(before);
  });

  // Tables: a click sorts, a second one turns the order round; what has no number stays last.

  function compare(a, b, column, direction) {
    const [x, y] = [a, b].map((row) => row.cells[column]);
    const numeric = x.classList.contains("number");
    if (!numeric) {
      return direction * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
    }
    const [missingX, missingY] = [x, y].map((cell) => cell.dataset.value === undefined);
    if (missingX || missingY) return missingX - missingY;
    const [valueX, valueY] = [x, y].map((cell) => parse(cell.dataset.value));
    return valueX === valueY ? 0 : direction * (valueX < valueY ? -1 : 1);
  }

  function parse(value) {
    return { inf: Infinity, "-inf": -Infinity }[value] ?? Number(value);
  }

  function sort(table, column) {
    const head = table.tHead.rows[0].cells;
    const ascending = head[column].ariaSort !== "ascending";
    for (const cell of head) cell.ariaSort = null;
    head[column].ariaSort = ascending ? "ascending" : "descending";
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(a, b, column, ascending ? 1 : -1));
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      cell.querySelector("button").addEventListener("click", () => sort(table, column));
    });
  }

  for (const box of document.querySelectorAll("input[type=search]")) {
    const rows = [...box.closest(".table").querySelector("tbody").rows];
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }
})();
