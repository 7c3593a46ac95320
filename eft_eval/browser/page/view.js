"use strict";
(() => {
  const main = document.getElementById("main");
  const status = document.getElementById("status");
  const trail = document.getElementById("trail");
  const LONG = 20000;
  const CHANGES = ["changed", "higher", "lower", "status", "alone"];
  let visit = 0;
  let runs = [];
  let listed = [];

  function make(name, text, kind) {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function link(text, state, kind) {
    const made = make("a", text, kind);
    made.href = address(state);
    return made;
  }

  function address(state) {
    const given = Object.entries(state).filter(([, value]) => value !== "" && value !== undefined);
    return "#/?" + new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  }

  function stateOf() {
    return Object.fromEntries(new URLSearchParams(location.hash.replace(/^#\/?\??/, "")));
  }

  async function ask(question, given) {
    const words = new URLSearchParams(Object.entries(given).filter(([, value]) => value !== undefined && value !== ""));
    const answer = await fetch(`/api/${question}?${words}`);
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  }

  function table(caption, heads, rows, kind) {
    const region = make("div", null, "scroll");
    const made = make("table", null, kind);
    made.append(make("caption", caption));
    const head = make("tr");
    for (const [text, number] of heads) {
      const cell = make("th", text, number ? "number" : "");
      cell.scope = "col";
      head.append(cell);
    }
    const top = make("thead");
    top.append(head);
    const body = make("tbody");
    for (const row of rows) {
      const line = make("tr");
      row.forEach((content, place) => {
        const cell = make(place === 0 ? "th" : "td", null, heads[place][1] ? "number" : "");
        if (place === 0) cell.scope = "row";
        else cell.dataset.head = heads[place][0];
        cell.append(...(Array.isArray(content) ? content : [content]));
        line.append(cell);
      });
      body.append(line);
    }
    made.append(top, body);
    region.append(made);
    return region;
  }

  function quote(text, place) {
    if (!text) {
      place.append(make("p", "(empty)", "note"));
      return;
    }
    const block = make("div", text.slice(0, LONG), "text");
    block.dir = "auto";
    place.append(block);
    if (text.length <= LONG) return;
    const more = make("button", `Show all ${text.length.toLocaleString("en")} characters`);
    more.type = "button";
    more.addEventListener("click", () => {
      block.textContent = text;
      more.remove();
    });
    place.append(more);
  }

  function choice(label, values, chosen, changed) {
    const made = make("label", label);
    const select = make("select");
    for (const [value, text] of values) {
      const option = make("option", text);
      option.value = value;
      option.selected = value === (chosen || "");
      select.append(option);
    }
    select.addEventListener("change", () => changed(select.value));
    made.append(select);
    return made;
  }

  function bound(label, value, changed) {
    const made = make("label", label, "short");
    const input = make("input");
    input.type = "number";
    input.step = "any";
    input.value = value || "";
    input.addEventListener("change", () => changed(input.value));
    made.append(input);
    return made;
  }

  function go(state) {
    location.hash = address(state);
  }

  function crumbs(...parts) {
    trail.replaceChildren(...parts.map((part) => {
      const item = make("li");
      item.append(part);
      return item;
    }));
  }

  function named(run) {
    return `${run.model}, ${run.date} (${run.place})`;
  }

  function notes(found) {
    const list = make("ul", null, "warnings");
    for (const note of found) list.append(make("li", note));
    return found.length ? [list] : [];
  }

  function title(text) {
    document.title = `${text} · eft-eval view`;
    const head = make("h1");
    head.append(make("bdi", text));
    return head;
  }

  function showRuns(found) {
    crumbs(make("span", "runs"));
    const rows = found.runs.map((run) => {
      const files = make("span", run.judged_from ? `${run.place}, judged from ${run.judged_from}` : run.place, "preview");
      const tasks = run.tasks.map((task) => {
        const place = make("div");
        place.append(link(task, { run: run.id, task }));
        return place;
      });
      return [[link(run.model, { run: run.id }), files], run.date, run.documents === null ? "–" : String(run.documents), tasks];
    });
    const heads = [["run"], ["date"], ["documents", true], ["tasks"]];
    const none = found.runs.length ? [] : [make("p", "There is no results file of lm-eval below this folder.")];
    main.replaceChildren(title(found.folder), ...notes(found.notes), ...none,
      ...(found.runs.length ? [table("Runs, newest first", heads, rows, "wide list")] : []));
  }

  function showRun(found, state) {
    crumbs(link("runs", {}), make("span", found.model));
    const parts = [title(found.model)];
    for (const task of found.tasks) {
      const head = make("h2");
      head.append(link(task.name, { run: state.run, task: task.name }));
      const rows = task.scores.map((one) => [`${one.metric},${one.filter}`, `${one.value} ${one.error}`.trim(), one.better]);
      const count = task.documents === null ? "" : `${task.documents} documents`;
      parts.push(head, table(count || "Scores", [["metric"], ["score", true], ["better"]], rows));
    }
    const list = make("dl");
    for (const [name, value] of found.facts) {
      const pair = make("div");
      const said = make("dd");
      said.append(make("bdi", value));
      pair.append(make("dt", name), said);
      list.append(pair);
    }
    parts.push(make("h2", "Where it comes from"), list);
    main.replaceChildren(...parts);
  }

  function controls(found, state, run) {
    const made = make("div", null, "controls");
    const put = (changes) => go({ ...state, first: undefined, ...changes });
    const any = (list) => [["", "any"], ...list];
    made.append(choice("task", run.tasks.map((task) => [task, task]), state.task,
      (task) => go({ run: state.run, task, other: state.other })));
    if (found.filters.length > 1)
      made.append(choice("filter", found.filters.map((name) => [name, name]), found.filter,
        (filter) => put({ filter, status: undefined, metric: undefined })));
    const statuses = Object.entries(found.statuses);
    if (statuses.length || state.status)
      made.append(choice("verdict", any(statuses.map(([name, count]) => [name, `${name} (${count})`])), state.status,
        (value) => put({ status: value })));
    made.append(choice("score", found.metrics.map((one) => [one.name, one.name]), metricOf(found, state),
      (metric) => put({ metric, least: undefined, most: undefined })));
    made.append(bound("at least", state.least, (least) => put({ least, metric: metricOf(found, state) })));
    made.append(bound("at most", state.most, (most) => put({ most, metric: metricOf(found, state) })));
    const others = runs.filter((one) => one.id !== state.run && one.tasks.includes(state.task));
    if (others.length)
      made.append(choice("compare with", [["", "no run"], ...others.map((one) => [one.id, named(one)])], state.other,
        (other) => put({ other, change: other ? state.change : undefined })));
    if (state.other) {
      const metric = found.metrics.find((one) => one.name === metricOf(found, state)) || { better: "" };
      const words = { changed: "another score", status: "another verdict's status", alone: "not in that run" };
      for (const way of ["higher", "lower"])
        words[way] = metric.better ? `${way} (${metric.better === way ? "better" : "worse"})` : way;
      made.append(choice("this run has", any(CHANGES.map((name) => [name, words[name]])), state.change,
        (change) => put({ change, metric: metricOf(found, state) })));
    }
    return made;
  }

  function metricOf(found, state) {
    return state.metric || (found.metrics[0] || { name: "" }).name;
  }

  function statusMarks(list) {
    return list.map((name) => make("span", name, name === "scored" ? "status" : "status open"));
  }

  function pager(found, state) {
    const made = make("div", null, "pager");
    const last = Math.min(found.first + found.page, found.total);
    const before = make("button", "Previous");
    const after = make("button", "Next");
    before.type = after.type = "button";
    before.disabled = found.first === 0;
    after.disabled = last >= found.total;
    before.addEventListener("click", () => go({ ...state, first: Math.max(0, found.first - found.page) || undefined }));
    after.addEventListener("click", () => go({ ...state, first: found.first + found.page }));
    const reading = found.complete ? "" : `; reading the file, ${found.read.toLocaleString("en")} lines so far`;
    const range = found.total ? `${(found.first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ` : "";
    made.append(before, after, make("span", `${range}${found.total.toLocaleString("en")} documents${reading}`));
    return made;
  }

  function showDocuments(found, state) {
    const run = runs.find((one) => one.id === state.run);
    const other = runs.find((one) => one.id === state.other);
    crumbs(link("runs", {}), link(run.model, { run: run.id }), make("span", state.task));
    const judged = Object.keys(found.statuses).length > 0;
    listed = found.documents.map((one) => String(one.at));
    const heads = [["document"], ...(judged ? [["verdicts"]] : []), ...found.metrics.map((one) => [one.name, true])];
    const rows = found.documents.map((one) => {
      const first = [link(`document ${one.doc_id}`, { ...state, filter: found.filter, at: one.at }), make("span", one.prompt, "preview")];
      const row = [first];
      if (judged) {
        const marks = statusMarks(one.statuses);
        if (one.other && String(one.other.statuses) !== String(one.statuses))
          marks.push(make("span", `other: ${one.other.statuses.join(", ") || "none"}`, "was"));
        row.push(marks);
      }
      for (const metric of found.metrics) {
        const value = one.values[metric.name] ?? "–";
        const was = one.other ? one.other.values[metric.name] : undefined;
        row.push(was !== undefined && was !== value ? [value, make("div", `other: ${was}`, "was")] : value);
      }
      return row;
    });
    const caption = other ? `Documents of ${run.model}, beside ${named(other)}` : "Documents";
    const focused = document.activeElement && document.activeElement.closest(".controls label");
    const label = focused ? focused.firstChild.textContent : "";
    main.replaceChildren(title(state.task), ...notes(found.notes), controls(found, state, run), pager(found, state),
      table(caption, heads, rows, "wide list"), ...(found.documents.length > 10 ? [pager(found, state)] : []));
    for (const one of label ? main.querySelectorAll(".controls label") : [])
      if (one.firstChild.textContent === label) one.lastChild.focus();
  }

  function verdict(one, place) {
    const block = make("div", null, "judged");
    const line = make("p");
    line.append(make("span", "Judge", "label"), " ", ...statusMarks([one.status]));
    if (one.value !== "") line.append(`score ${one.value} `);
    if (one.judge) line.append(make("span", `(${one.judge})`, "was"));
    block.append(line);
    if (one.error) block.append(make("p", one.error, "error"));
    if (one.reason) quote(one.reason, block);
    if (one.raw && one.raw !== one.reason) block.append(folded("The judge's reply as it came", one.raw));
    place.append(block);
  }

  function folded(summary, text) {
    const made = make("details");
    made.append(make("summary", summary));
    quote(text, made);
    return made;
  }

  function side(one, several) {
    const made = make("div", null, "side");
    const head = make("h2");
    head.append(make("bdi", several ? `${one.run}` : "Responses"));
    made.append(head);
    if (several) made.append(make("p", one.place, "note"));
    if (one.missing) {
      made.append(make("p", one.missing, "note"));
      return made;
    }
    if (one.prompt) made.append(folded("This run sent another prompt", one.prompt));
    const place = make("div", null, "responses");
    const paired = one.verdicts.length === one.responses.length;
    one.responses.forEach((text, number) => {
      if (one.responses.length > 1) place.append(make("h3", `response ${number + 1}`));
      quote(text, place);
      if (one.judged[number] !== undefined) place.append(folded("What the judge was given", one.judged[number]));
      if (one.unfinished.includes(number)) place.append(make("p", "unfinished: its reasoning did not end", "note"));
      if (paired) verdict(one.verdicts[number], place);
    });
    if (!paired) for (const found of one.verdicts) verdict(found, place);
    made.append(place);
    const differing = one.filtered.filter((text, number) => text !== one.responses[number]);
    if (differing.length) {
      made.append(make("h3", "After the filter"));
      for (const text of one.filtered) quote(text, made);
    }
    const scores = Object.entries(one.values);
    if (scores.length)
      made.append(table("Scores", [["metric"], ["score", true]], scores));
    return made;
  }

  function tokens(found, number) {
    const made = make("section");
    made.append(make("h2", `Token by token: ${found.title}`));
    made.append(make("p", found.of_response ? `Of this response, from ${found.place}.` : `Of another response to this prompt, from ${found.place}.`, "note"));
    const place = make("div", null, "tokens");
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", `tokens ${number + 1}`);
    place.dir = "auto";
    const panel = make("div", null, "token-details");
    panel.setAttribute("role", "status");
    const all = found.tokens.map((token, at) => {
      const one = make("span", token.text, `token s${token.step}`);
      one.setAttribute("role", "button");
      one.setAttribute("aria-label", token.label);
      one.tabIndex = at === 0 ? 0 : -1;
      if (token.mark) {
        const mark = make("sup", token.mark);
        mark.setAttribute("aria-hidden", "true");
        one.append(mark);
      }
      place.append(one);
      if (token.breaks) place.append(make("br"));
      for (const kind of ["focus", "mouseover", "click"])
        one.addEventListener(kind, () => {
          for (const other of all) other.tabIndex = -1;
          one.tabIndex = 0;
          details(panel, token.details);
        });
      return one;
    });
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    place.addEventListener("keydown", (event) => {
      const at = all.indexOf(document.activeElement);
      let next = null;
      if (event.key in moves) next = all[at + moves[event.key]];
      else if (event.key === "Home") next = all[0];
      else if (event.key === "End") next = all[all.length - 1];
      else return;
      event.preventDefault();
      if (next) next.focus();
    });
    made.append(place, panel);
    if (found.cut) made.append(make("p", found.cut, "cut"));
    return made;
  }

  function details(panel, token) {
    const list = make("dl");
    const pair = (name, value) => {
      const row = make("div");
      row.append(make("dt", name), make("dd", value));
      list.append(row);
    };
    pair("distance from the draft", token.distance);
    pair("probability", `${token.probability} (draft ${token.draft})`);
    pair("entropy", token.entropy);
    for (const [member, said, probability] of token.choices)
      pair(member === "composite" ? "the composite" : `${member} alone`, `${said} ${probability}`);
    for (const name of ["raised", "lowered"]) {
      const text = token[name].map(([said, change]) => `${said} ${change}`).join(", ");
      if (text) pair(name, text);
    }
    const head = make("p");
    head.append(make("strong", token.token));
    panel.replaceChildren(head, list);
  }

  function showDocument(found, state) {
    const run = runs.find((one) => one.id === state.run);
    const list = { ...state };
    delete list.at;
    crumbs(link("runs", {}), link(run.model, { run: run.id }), link(state.task, list), make("span", `document ${found.doc_id}`));
    const parts = [title(`${state.task}, document ${found.doc_id}`)];
    const place = listed.indexOf(state.at);
    if (place >= 0) {
      const near = make("div", null, "pager");
      for (const [text, at] of [["Previous", listed[place - 1]], ["Next", listed[place + 1]]])
        if (at !== undefined) near.append(link(`${text} of the list`, { ...state, at }));
      parts.push(near);
    }
    parts.push(make("h2", "Prompt, as it was sent"));
    const asked = make("div");
    if (found.requests.length > 1)
      found.requests.forEach((one) => {
        asked.append(make("h3", one.name));
        quote(one.prompt, asked);
        if (one.rest) quote(one.rest, asked);
      });
    else {
      quote(found.requests.length ? found.requests[0].prompt : found.prompt, asked);
      if (found.requests.length && found.requests[0].rest) asked.append(folded("Settings of the request", found.requests[0].rest));
    }
    parts.push(asked);
    if (found.target) {
      parts.push(make("h2", "Target"));
      quote(found.target, parts[parts.push(make("div")) - 1]);
    }
    const sides = make("div", null, "sides");
    for (const one of found.sides) sides.append(side(one, found.sides.length > 1));
    parts.push(sides);
    found.traces.forEach((one, number) => parts.push(tokens(one, number)));
    parts.push(folded("The document as the task has it", found.doc));
    main.replaceChildren(...parts);
    window.scrollTo(0, 0);
  }

  async function show() {
    const mine = ++visit;
    const state = stateOf();
    status.textContent = "";
    try {
      if (!runs.length || !state.run) {
        const found = await ask("runs", {});
        if (mine !== visit) return;
        runs = found.runs;
        if (!state.run) return showRuns(found);
      }
      if (!runs.some((one) => one.id === state.run)) throw new Error("This run is no longer in the folder.");
      if (!state.task) {
        const found = await ask("run", { run: state.run });
        if (mine === visit) showRun(found, state);
        return;
      }
      if (state.at !== undefined) {
        const found = await ask("document", state);
        if (mine === visit) showDocument(found, state);
        return;
      }
      let shown = -1;
      for (;;) {
        const found = await ask("documents", state);
        if (mine !== visit) return;
        const needed = found.complete || found.documents.length !== shown || found.documents.length < found.page;
        if (needed) showDocuments(found, state);
        shown = found.documents.length;
        if (found.complete) return;
        status.textContent = `Reading the file: ${found.read.toLocaleString("en")} lines so far.`;
        await new Promise((done) => setTimeout(done, 700));
        if (mine !== visit) return;
      }
    } catch (error) {
      if (mine !== visit) return;
      if (!trail.firstChild) crumbs(link("runs", {}));
      main.replaceChildren(make("h1", "This cannot be shown"), make("p", error.message, "error"), link("To the list of runs", {}));
    }
  }

  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  window.addEventListener("hashchange", () => {
    show().then(() => main.focus({ preventScroll: true }));
  });
  show();
})();
