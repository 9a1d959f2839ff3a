// Draws a domain's prefixes as a tree, and sample pages. Whatever came from a page becomes text, never markup.

export const MARKS = { accepted: "✓", rejected: "✗", conflict: "⚠", none: "·" };

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export const number = (value) => value.toLocaleString("en");
export const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}%` : "0%");

// Gives each row its parent and the number of its children.
export function connect(rows) {
  const path = [];
  for (const row of rows) {
    path.length = row.depth;
    row.parent = path[row.depth - 1] ?? null;
    row.children = 0;
    if (row.parent) row.parent.children += 1;
    path.push(row);
  }
}

export function ownState(row) {
  if (!row.votes.length) return "none";
  if (row.verdict === null) return "conflict";
  return row.verdict ? "accepted" : "rejected";
}

// The row itself or the nearest one above it that has a decision; null where none has.
export function deciding(row) {
  for (let one = row; one; one = one.parent) if (one.votes.length) return one;
  return null;
}

export function isVisible(row, closed) {
  for (let one = row.parent; one; one = one.parent) if (closed.has(one.prefix)) return false;
  return true;
}

export function bar(part, whole) {
  const outer = element("span", "bar");
  const inner = element("span", "bar-fill");
  inner.style.width = percent(part, whole);
  outer.append(inner);
  return outer;
}

export function prefixRow(row, { index, isSelected, isClosed, waiting, by }) {
  const made = element("div", "prefix row");
  made.id = `prefix-${index}`;
  made.setAttribute("role", "treeitem");
  made.setAttribute("aria-level", row.depth + 1);
  made.setAttribute("aria-selected", isSelected);
  if (row.children) made.setAttribute("aria-expanded", !isClosed);
  made.append(nameCell(row, isClosed), countCell(row), scoreCell(row), whoCell(row, waiting, by));
  return made;
}

function nameCell(row, isClosed) {
  const cell = element("span", "name");
  cell.style.paddingLeft = `${row.depth * 18}px`;
  cell.append(element("span", "twist", row.children ? (isClosed ? "▸" : "▾") : ""), mark(row));
  const name = element("span", "label", label(row));
  name.title = row.prefix;
  cell.append(name);
  return cell;
}

// Without the folder that the parent lies in; a prefix that ends inside a name goes on.
function label(row) {
  const start = row.parent ? row.parent.prefix.lastIndexOf("/") + 1 : 0;
  return row.prefix.slice(start) + (row.prefix.endsWith("/") ? "" : "…");
}

function mark(row) {
  const own = ownState(row);
  const from = own === "none" ? deciding(row) : null;
  const state = from ? ownState(from) : own;
  const made = element("span", `mark ${state}${from ? " inherited" : ""}`, MARKS[state]);
  made.title = from ? `${state}, through ${from.prefix}` : state === "none" ? "undecided" : state;
  made.setAttribute("aria-label", made.title);
  return made;
}

function countCell(row) {
  const cell = element("span", "counts");
  if (row.pages === null) cell.append(element("span", "quiet", "not counted"));
  else cell.append(bar(row.collected, row.pages), element("span", "figures", `${number(row.collected)} / ${number(row.pages)}`));
  return cell;
}

function scoreCell(row) {
  return element("span", "score figures", row.mean_score === null ? "" : row.mean_score.toFixed(2));
}

function whoCell(row, waiting, by) {
  if (waiting) {
    const what = waiting.accept === null ? "undo" : waiting.accept ? MARKS.accepted : MARKS.rejected;
    return element("span", waiting.failed ? "who error" : "who quiet", `${what} ${waiting.failed ? "not saved" : "saving…"}`);
  }
  const cell = element("span", "who");
  for (const vote of row.votes) {
    const who = vote.by === by ? "you" : vote.by;
    const one = element("span", vote.accept ? "accepted" : "rejected", `${vote.accept ? MARKS.accepted : MARKS.rejected} ${who}`);
    one.title = `${vote.accept ? "accepted" : "rejected"} by ${vote.by}${vote.at ? `, ${vote.at}` : ""}`;
    cell.append(one, " ");
  }
  return cell;
}

export function voteLines(row, by) {
  const lines = row.votes.map((vote) => {
    const line = element("p", vote.accept ? "accepted" : "rejected");
    const when = vote.at ? `, ${new Date(vote.at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })}` : "";
    line.textContent = `${vote.accept ? "✓ accepted" : "✗ rejected"} by ${vote.by}${vote.by === by ? " (you)" : ""}${when}`;
    return line;
  });
  if (ownState(row) === "conflict") lines.push(element("p", "conflict", "⚠ Conflict: as many accept as reject, so nothing is decided."));
  const from = row.votes.length ? null : deciding(row);
  if (from) lines.push(element("p", "quiet", `No decision of its own: ${ownState(from)} through ${from.prefix}`));
  else if (!row.votes.length) lines.push(element("p", "quiet", "Undecided"));
  return lines;
}

export function sampleCard(sample) {
  const card = element("article", "sample");
  card.setAttribute("role", "listitem");
  const facts = element("div", "facts small");
  facts.append(
    element("span", sample.kept ? "tag kept" : "tag", sample.kept ? "collected" : "not collected"),
    element("span", "figures", `score ${sample.score.toFixed(3)}`),
    element("span", "quiet", `${number(sample.words)} words`),
  );
  card.append(facts, address(sample.url), element("div", "text", sample.text || "(no text)"));
  return card;
}

function address(url) {
  if (!/^https?:\/\//i.test(url)) return element("span", "address", url);
  const link = element("a", "address", url);
  link.href = url;
  link.target = "_blank";
  link.rel = "noreferrer noopener";
  return link;
}
