// Talks to the server. A decision is kept, shown and sent again until the server says that it is on the disk.

const RETRY_MS = 2000;

export async function request(path, body) {
  let answer;
  try {
    answer = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("the server does not answer; start it again with the same --port");
  }
  const value = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(value.error);
  return value;
}

export class Saving {
  // saved(answer): a decision is on the disk. changed(): what is waiting, or why, is another now.
  constructor(saved, changed) {
    this.waiting = new Map(); // prefix -> {domain, prefix, accept}
    this.error = "";
    this.count = 0; // saved since the page was opened
    this.saved = saved;
    this.changed = changed;
    this.sending = false;
    window.addEventListener("beforeunload", (event) => {
      if (this.waiting.size) event.preventDefault();
    });
  }

  add(decision) {
    this.waiting.delete(decision.prefix); // the newest is sent last
    this.waiting.set(decision.prefix, decision);
    this.changed();
    this.send();
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.timer);
    try {
      while (this.waiting.size) {
        const [[prefix, decision]] = this.waiting;
        const answer = await request("/api/decision", decision);
        if (this.waiting.get(prefix) === decision) this.waiting.delete(prefix);
        this.count += 1;
        this.error = "";
        this.saved(answer, decision.domain);
      }
    } catch (error) {
      this.error = error.message;
      this.timer = setTimeout(() => this.send(), RETRY_MS);
    } finally {
      this.sending = false;
      this.changed();
    }
  }

  text() {
    const waiting = this.waiting.size;
    if (waiting && this.error) return `${waiting} not saved: ${this.error}. Trying again…`;
    if (waiting) return "saving…";
    return this.count ? "✓ saved" : "";
  }
}
