"use strict";
// What a pointer, a finger or the keyboard adds to the report. Without the script the page has the same text and
// pictures. The script loads nothing, and every number that it shows is in the page.
(() => {
  const SCALE = 10000; // unit of the marks: plotting/style.py
  const REACH = 48; // CSS pixels within which the nearest mark answers
  const TOUCH = 6; // CSS pixels within which a mark or a line is touched
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const text = (element) => element.textContent.trim().replace(/\s+/g, " ");
  const make = (tag, className, textContent = "") =>
    Object.assign(document.createElement(tag), { className, textContent });
  const view = (name) => document.getElementById(`view-${name}`).content.firstElementChild.cloneNode(true);
  const decibels = (value) => `${value.toFixed(2)} dB`;

  // No line ends between a number and its unit, nor beside an equals sign.
  all("main p, figcaption").forEach((element) => {
    const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode;
      node.data = node.data.replace(/(\d) (?=(?:%|dB|kB)(?!\w))/g, "$1\u00a0").replace(/ = (?=[\d−])/g, "\u00a0=\u00a0");
    }
  });

  // The tip beside the element that is pointed at or focused. Screen readers read it.
  const tip = make("div", "tip");
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);

  function showTip(value, label, x, y) {
    tip.replaceChildren(make("b", "", value), make("span", "", label));
    tip.hidden = false;
    const rightmost = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${clamp(x - tip.offsetWidth / 2, 8, rightmost)}px`;
    const above = y - tip.offsetHeight - 14;
    tip.style.top = `${scrollY + (above < 8 ? y + 18 : above)}px`; // the tip scrolls with the page
  }

  function hideTip() {
    tip.hidden = true;
    all(".dot").forEach((dot) => { dot.hidden = true; });
  }

  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });

  // Pictures with marks. The hosts of a group are one stop of the tab key; arrow keys move between them.
  function marked(host, group) {
    const { labels, points, lines = [] } = JSON.parse(host.dataset.marks);
    const dot = make("span", "dot");
    dot.hidden = true;
    host.append(dot);
    let current = 0;

    function show(k) {
      hideTip();
      const [x, y, label, value] = points[(current = k)];
      dot.style.left = `${(100 * x) / SCALE}%`;
      dot.style.top = `${(100 * y) / SCALE}%`;
      dot.hidden = false;
      const box = host.getBoundingClientRect();
      showTip(value, labels[label], box.left + (x / SCALE) * box.width, box.top + (y / SCALE) * box.height);
    }

    function point(event) {
      const box = host.getBoundingClientRect();
      const [left, top] = [event.clientX - box.left, event.clientY - box.top];
      const places = points.map(([x, y]) => [(x / SCALE) * box.width - left, (y / SCALE) * box.height - top]);
      const away = places.map(([x, y]) => Math.hypot(x, y));
      const nearest = away.indexOf(Math.min(...away));
      const touched = away[nearest] <= TOUCH ? nearest : onLine(places);
      if (touched !== undefined) show(touched);
      else away[nearest] <= REACH ? show(nearest) : hideTip();
    }

    // Between its points a line answers with the nearer end of the piece that the pointer, the origin, touches.
    function onLine(places) {
      let [best, found] = [TOUCH, undefined];
      lines.forEach(([first, end]) => {
        for (let k = first; k + 1 < end; k++) {
          const [[x, y], [dx, dy]] = [places[k], [places[k + 1][0] - places[k][0], places[k + 1][1] - places[k][1]]];
          const along = clamp(-(x * dx + y * dy) / (dx * dx + dy * dy || 1), 0, 1);
          const distance = Math.hypot(x + along * dx, y + along * dy);
          if (distance < best) [best, found] = [distance, along < 0.5 ? k : k + 1];
        }
      });
      return found;
    }

    // Up and down: the next series of a chart, at the point with the nearest x.
    function otherSeries(step) {
      const [x, , label] = points[current];
      const there = points.map((p, k) => [Math.abs(p[0] - x), k, p[2]]).filter((p) => p[2] === label + step);
      return there.length ? there.reduce((a, b) => (b[0] < a[0] ? b : a))[1] : current;
    }

    function key(event) {
      const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const upright = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (sideways === undefined && upright === undefined) return;
      event.preventDefault();
      const next = sideways === undefined ? current : current + sideways;
      const neighbour = group[group.indexOf(host) + (sideways ?? upright)];
      const leaves = upright !== undefined && group.length > 1;
      if (neighbour && (leaves || !points[next])) neighbour.focus();
      else {
        current = upright === undefined ? clamp(next, 0, points.length - 1) : otherSeries(upright);
        dot.scrollIntoView({ block: "nearest", inline: "nearest" });
        show(current);
      }
    }

    host.tabIndex = host === group[0] ? 0 : -1;
    host.setAttribute("role", "group");
    host.setAttribute("aria-label", `Values; arrow keys. ${host.querySelector("img").alt}`);
    host.closest(".paper").removeAttribute("tabindex"); // one tab stop for scrolling and values
    host.addEventListener("pointermove", point);
    host.addEventListener("pointerdown", point);
    host.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hideTip(); });
    host.addEventListener("focus", () => {
      group.forEach((other) => { other.tabIndex = other === host ? 0 : -1; });
      if (host.matches(":focus-visible")) show(current);
    });
    host.addEventListener("blur", hideTip);
    host.addEventListener("keydown", key);
  }

  all(".marked[data-marks]").forEach((host) => {
    const group = host.closest("[data-group]");
    marked(host, group ? all(".marked[data-marks]", group) : [host]);
  });

  // Cells with a sentence: the table is one stop of the tab key, and arrow keys move from cell to cell.
  all("table.heat").forEach((table) => {
    const rows = all("tbody tr", table).map((row) => all("td", row));
    const show = (cell) => {
      const box = cell.getBoundingClientRect();
      showTip(text(cell), cell.dataset.tip, box.left + box.width / 2, box.top);
    };
    rows.forEach((row, r) => row.forEach((cell, c) => {
      cell.tabIndex = r || c ? -1 : 0;
      cell.addEventListener("pointerenter", () => show(cell));
      cell.addEventListener("pointerleave", hideTip);
      cell.addEventListener("blur", hideTip);
      cell.addEventListener("focus", () => {
        rows.flat().forEach((other) => { other.tabIndex = other === cell ? 0 : -1; });
        show(cell);
      });
      cell.addEventListener("keydown", (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!step) return;
        event.preventDefault();
        rows[r + step[0]]?.[c + step[1]]?.focus();
      });
    }));
  });

  // Pictures to compare: both viewers take their pictures from the grid below.
  function gridOf(figure) {
    const rows = all("tbody tr", figure).map((row) => ({ name: text(row.querySelector("th")), cells: all("td", row) }));
    return { titles: all("thead th", figure).slice(1).map(text), rows };
  }

  const choices = (select, names, chosen) => select.append(
    ...names.map((name, k) => new Option(name, k, k === chosen, k === chosen)));
  const picture = (cell) => cell.querySelector("img").cloneNode();
  const mark = (figure, shown) => all("td", figure).forEach(
    (cell) => cell.classList.toggle("shown", shown.includes(cell)));
  const onClick = (rows, act) => rows.forEach(({ cells }, r) => cells.forEach(
    (cell, c) => cell.addEventListener("click", () => act(r, c))));

  function wipe(figure) {
    const { titles, rows } = gridOf(figure);
    const viewer = view("wipe");
    const [stage, readout] = [viewer.querySelector(".stage"), viewer.querySelector(".readout")];
    const control = Object.fromEntries(all("[name]", viewer).map((element) => [element.name, element]));
    choices(control.row, rows.map((row) => row.name), 0);
    choices(control.left, titles, Number(figure.dataset.left));
    choices(control.right, titles, Number(figure.dataset.right));

    function draw() {
      const { cells } = rows[control.row.value];
      const shown = ["left", "right"].map((side) => cells[control[side].value]);
      const lines = shown.map((cell) => [titles[cells.indexOf(cell)], text(cell)].filter(Boolean).join(", "));
      ["left", "right"].forEach((side, k) => viewer.querySelector(`.side.${side}`)
        .replaceChildren(picture(shown[k]), make("span", "chip", lines[k])));
      const change = Number(shown[1].dataset.psnr) - Number(shown[0].dataset.psnr); // NaN: a picture has no PSNR
      const big = Number.isNaN(change) ? "" : `${change < 0 ? "−" : "+"}${decibels(Math.abs(change))}`;
      readout.replaceChildren(make("b", "", big), make("small", "", `right minus left: ${lines[1]}; ${lines[0]}`));
      mark(figure, shown);
      cut();
    }

    function cut() {
      stage.style.setProperty("--edge", `${control.edge.value}%`);
      control.edge.setAttribute("aria-valuetext", `${control.edge.value} % from the left`);
    }

    function drag(event) {
      const box = stage.getBoundingClientRect();
      control.edge.value = (100 * (event.clientX - box.left)) / box.width;
      cut();
    }

    stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
    stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) drag(event); });
    control.edge.addEventListener("input", cut);
    [control.row, control.left, control.right].forEach((select) => select.addEventListener("change", draw));
    onClick(rows, (r, c) => {
      [control.row.value, control.right.value] = [r, c];
      draw();
    });
    figure.prepend(viewer);
    draw();
  }

  function dial(figure) {
    const { titles, rows } = gridOf(figure);
    const strengths = titles.map((title) => Number(title.replace(/[^\d.-]/g, "")));
    if (strengths.length < 2) return;
    const [low, high] = [Math.min(...strengths), Math.max(...strengths)];
    const values = rows.map((row) => row.cells.map((cell) => Number(cell.dataset.psnr)));
    const [worst, best] = [Math.min(...values.flat()), Math.max(...values.flat())];
    const viewer = view("dial");
    const [stage, readout, spark] = [".stage", ".readout", ".spark"].map((name) => viewer.querySelector(name));
    const chip = make("span", "chip");
    const { row: set, strength } = Object.fromEntries(all("[name]", viewer).map((element) => [element.name, element]));
    const across = (x) => (200 * (x - low)) / (high - low || 1);
    const up = (y) => 70 - (70 * (y - worst)) / (best - worst || 1);
    choices(set, rows.map((row) => row.name), Number(figure.dataset.row));
    [strength.min, strength.max] = [low, high];
    strength.value = clamp(1, low, high);
    viewer.querySelector(".ticks").append(...strengths.map((value) => {
      const tick = make("span", "", String(value));
      tick.style.left = `${across(value) / 2}%`;
      return tick;
    }));

    function draw() {
      stage.replaceChildren(...rows[set.value].cells.map(picture), chip);
      const line = strengths.map((value, k) => `${across(value)},${up(values[set.value][k])}`);
      spark.querySelector("polyline").setAttribute("points", line.join(" "));
      turn();
    }

    // The two nearest restorations, and the share of the upper one: 0 at the lower, 1 at the upper.
    function turn() {
      const [psnr, step] = [values[set.value], Number(strength.step)];
      const near = strengths.findIndex((value) => Math.abs(value - strength.value) < step / 2);
      const chosen = near < 0 ? Number(strength.value) : strengths[near];
      const upper = clamp(strengths.findIndex((value) => value >= chosen), 1, strengths.length - 1);
      const lower = upper - 1;
      const share = (chosen - strengths[lower]) / (strengths[upper] - strengths[lower]);
      const blended = (1 - share) * psnr[lower] + share * psnr[upper];
      all("img", stage).forEach((image, k) => { image.style.opacity = k === upper ? share : Number(k === lower); });
      const around = [lower, upper].map((k) => `${decibels(psnr[k])} at ${strengths[k]}`);
      const [big, small] = near >= 0
        ? [decibels(psnr[near]), "PSNR of this restoration, whole image"]
        : [`about ${decibels(blended)}`, `between ${around.join(" and ")}`];
      const name = `λ = ${Number(chosen.toFixed(3))}`;
      readout.replaceChildren(make("b", "", name), make("b", "", big), make("small", "", small));
      chip.textContent = `${name}, ${big}`;
      strength.setAttribute("aria-valuetext", chip.textContent);
      spark.querySelector("circle").setAttribute("transform", `translate(${across(chosen)} ${up(blended)})`);
      const { cells } = rows[set.value];
      mark(figure, near >= 0 ? [cells[near]] : [cells[lower], cells[upper]]);
    }

    strength.addEventListener("input", turn);
    set.addEventListener("change", draw);
    onClick(rows, (r, c) => {
      [set.value, strength.value] = [r, strengths[c]];
      draw();
    });
    figure.prepend(viewer);
    draw();
  }

  all("figure[data-view=wipe]").forEach(wipe);
  all("figure[data-view=dial]").forEach(dial);

  // Tables that sort: numbers from the largest, words from A. A third click restores the original order.
  const number = (cell) => parseFloat(text(cell).replace(/−/g, "-").replace(/,/g, ""));

  function sortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = all("thead th", table);
    if (original.length < 2) return;
    heads.forEach((head, column) => {
      const numeric = column > 0 && original.some((row) => !Number.isNaN(number(row.cells[column])));
      const order = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const button = make("button", "", text(head));
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const next = order[order.indexOf(head.getAttribute("aria-sort")) + 1];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const compare = numeric
          ? (a, b) => (Number.isNaN(a) - Number.isNaN(b)) || sign * (a - b)
          : (a, b) => sign * a.localeCompare(b, "en", { numeric: true });
        const key = (row) => (numeric ? number : text)(row.cells[column]);
        body.append(...(next ? [...original].sort((a, b) => compare(key(a), key(b))) : original));
      });
    });
  }

  all("table[data-sorts]").forEach(sortable);

  // "Data: x.csv" links to the table's row, or to the file itself if the page contains it.
  all("a[data-csv]").forEach((link) => {
    const file = document.getElementById(decodeURIComponent(link.hash.slice(1)))?.querySelector("a[download]");
    if (file) Object.assign(link, { href: file.href, download: file.download });
  });

  // The contents mark the section that is on the screen.
  const reading = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
    const link = document.querySelector(`#contents a[href="#${target.getAttribute("aria-labelledby")}"]`);
    if (link) link.setAttribute("aria-current", isIntersecting);
  }), { rootMargin: "-15% 0px -80%" });
  all("main > section").forEach((section) => reading.observe(section));

  // A printed page has nothing to unfold.
  addEventListener("beforeprint", () => all("details").forEach((folded) => { folded.open = true; }));

  all(".hint").forEach((hint) => { hint.hidden = false; });
})();
