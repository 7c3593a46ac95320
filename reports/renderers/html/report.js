"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);

  function element(name, text, kind) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function pair(list, name, value) {
    const row = element("div");
    row.append(element("dt", name), element("dd", value));
    list.append(row);
  }

  function fill(panel, token) {
    const list = element("dl");
    pair(list, "distance from the draft", token.distance);
    pair(list, "probability", `${token.probability} (draft ${token.draft})`);
    pair(list, "entropy", token.entropy);
    for (const [member, said, probability] of token.choices)
      pair(list, member === "composite" ? "the composite" : `${member} alone`, `${said} ${probability}`);
    for (const name of ["raised", "lowered"]) {
      const text = token[name].map(([said, change]) => `${said} ${change}`).join(", ");
      if (text) pair(list, name, text);
    }
    const head = element("p");
    head.append(element("strong", token.token));
    panel.replaceChildren(head, list);
    panel.hidden = false;
  }

  for (const trace of document.querySelectorAll("[data-trace]")) {
    const tokens = [...trace.querySelectorAll(".token")];
    const panel = trace.querySelector(".token-details");
    const records = data.tokens[trace.dataset.trace];
    let current = tokens[0];

    function show(token) {
      current.classList.remove("current");
      current.tabIndex = -1;
      current = token;
      current.classList.add("current");
      current.tabIndex = 0;
      fill(panel, records[Number(token.dataset.token)]);
    }

    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    trace.addEventListener("keydown", (event) => {
      const token = event.target.closest(".token");
      if (!token) return;
      const at = tokens.indexOf(token);
      let next = null;
      if (event.key in moves) next = tokens[at + moves[event.key]];
      else if (event.key === "Home") next = tokens[0];
      else if (event.key === "End") next = tokens[tokens.length - 1];
      else if (event.key === "Enter" || event.key === " ") next = token;
      else return;
      event.preventDefault();
      if (next) next.focus();
    });
    for (const kind of ["focusin", "mouseover", "click"])
      trace.addEventListener(kind, (event) => {
        const token = event.target.closest(".token");
        if (token) show(token);
      });
  }
})();
