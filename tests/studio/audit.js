// What is wrong with the page that stands open, judged by a script: an object of functions, each of which returns a list of words.
(() => {
  const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
  const shown = (node) => node.checkVisibility({ visibilityProperty: true });
  const told = (node) => node.outerHTML.slice(0, 120);
  const focusable = () => [...document.querySelectorAll(FOCUSABLE)];

  const named = (node) => {
    const by = (node.getAttribute("aria-labelledby") ?? "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id)?.textContent ?? "");
    return (node.getAttribute("aria-label") || by.join(" ") || node.title || "").trim();
  };
  const text = (node) => named(node) || node.textContent.trim() || node.querySelector("img")?.alt || "";

  function structure() {
    const found = [];
    const headings = [...document.querySelectorAll("h1, h2, h3, h4")].filter(shown);
    if (headings.filter((node) => node.tagName === "H1").length !== 1) found.push("not exactly one h1");
    headings.reduce((last, node) => {
      if (Number(node.tagName[1]) > last + 1) found.push(`a level is left out before ${told(node)}`);
      return Number(node.tagName[1]);
    }, 0);
    if (document.querySelectorAll("main").length !== 1) found.push("not exactly one main");
    if (!document.documentElement.lang) found.push("no language");
    if (!document.title.trim()) found.push("no title");
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    for (const id of new Set(ids.filter((id, place) => ids.indexOf(id) !== place))) found.push(`two of id ${id}`);
    for (const kind of ["aria-labelledby", "aria-describedby"])
      for (const node of document.querySelectorAll(`[${kind}]`))
        for (const id of node.getAttribute(kind).split(/\s+/).filter(Boolean)) if (!document.getElementById(id)) found.push(`no ${id} for ${told(node)}`);
    return found;
  }

  function names() {
    const found = [];
    const each = (what, selector, wrong) => document.querySelectorAll(selector).forEach((node) => wrong(node) && found.push(`${what}: ${told(node)}`));
    each("no label", "input:not([type=hidden]), select, textarea", (node) => !named(node) && ![...(node.labels ?? [])].some((label) => label.textContent.trim()));
    each("no name", "a[href], button, summary", (node) => !text(node));
    each("no name", "progress, [role=img], iframe, dialog, nav, [role=region], [role=log]", (node) => !named(node));
    each("no alt", "img", (node) => !node.hasAttribute("alt"));
    each("no scope", "th", (node) => !node.scope && node.textContent.trim());
    each("an order of its own", "[tabindex]", (node) => node.tabIndex > 0);
    each("no keyboard", "[onclick], div[role=button], span[role=button]", () => true);
    return found;
  }

  const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const linear = (level) => (level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4);
  const light = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, share, index) => sum + share * linear(colour[index] / 255), 0);
  const over = (top, below) => [0, 1, 2].map((index) => (top[3] ?? 1) * top[index] + (1 - (top[3] ?? 1)) * below[index]);

  function behind(node) {
    const layers = [];
    for (let place = node; place; place = place.parentElement) {
      const colour = numbers(getComputedStyle(place).backgroundColor);
      if ((colour[3] ?? 1) > 0) layers.push(colour);
      if (colour.length === 3) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  }

  // WCAG 2.2, 1.4.3: 4.5, of large text 3; a control that cannot be used needs none.
  function contrast() {
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode.parentElement;
      const words = walker.currentNode.data.trim();
      if (!words || ["SCRIPT", "STYLE", "OPTION"].includes(node.tagName) || !shown(node)) continue;
      if (node.closest("button:disabled, svg, .js-plotly-plot, .hidden, .skip")) continue;
      const style = getComputedStyle(node);
      const size = parseFloat(style.fontSize);
      const wanted = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
      const ground = behind(node);
      const pair = [light(over(numbers(style.color), ground)), light(ground)];
      const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      if (ratio < wanted) found.add(`contrast ${ratio.toFixed(2)} of ${wanted}: ${style.color} on ${ground.map(Math.round)}: ${words.slice(0, 40)}`);
    }
    return [...found];
  }

  function sideways() {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = (node) => node.getBoundingClientRect().right > width + 1 && !node.parentElement.closest(".scroll, .drawing, .log, svg");
    return [...document.body.querySelectorAll("*")].filter(wide).slice(0, 4).map((node) => `wider than the window: ${told(node)}`);
  }

  const shift = () =>
    new Promise((resolve) => {
      let sum = 0;
      const add = (list) => list.getEntries().forEach((entry) => (sum += entry.hadRecentInput ? 0 : entry.value));
      new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
      setTimeout(() => resolve(sum), 100);
    });

  // Which of all focusable things the tab key should meet, by their place in the page; one of several radio buttons stands for all.
  function wanted() {
    const top = document.createElement("span"); // so that the next tab begins with the page, whatever had the focus
    top.tabIndex = -1;
    document.body.prepend(top);
    top.focus();
    top.remove();
    scrollTo(0, 0);
    const usable = (node) => !node.disabled && node.tabIndex >= 0 && node.type !== "hidden" && shown(node) && !node.closest("dialog:not([open])");
    return focusable().flatMap((node, place) => (usable(node) && (node.type !== "radio" || node.checked) ? [place] : []));
  }

  function focused() {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    return { place: focusable().indexOf(node), seen, what: told(node) };
  }

  const called = (places) => places.map((place) => told(focusable()[place]));
  return { structure, names, contrast, sideways, shift, wanted, focused, called };
})()
