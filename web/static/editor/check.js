// Asks Kennel what is wrong with the text, a moment after the last change, and finds the field of each problem.
import { csrf } from "../csrf.js";

const PAUSE_MS = 350;

// `/faults/0/start` of `faults[0].start`; a missing field stands where it would be.
export function keyOf(problem) {
  const path = problem.field.split(/\.|\[(\d+)\]/).filter((part) => part !== undefined && part !== "");
  const missing = /^missing field `([^`]+)`/.exec(problem.message)?.[1];
  if (missing) path.push(missing);
  const absent = /has no `(duration)`/.exec(problem.message)?.[1];
  if (absent) path.push(absent);
  return path.join("/");
}

export class Check {
  // `told` gets `{ problems, valid }` of the newest text, or `{ failed }`.
  constructor(kind, told) {
    this.kind = kind;
    this.told = told;
    this.asked = 0;
    this.timer = null;
    this.stop = null;
  }

  soon(text) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(text), PAUSE_MS);
  }

  async now(text) {
    clearTimeout(this.timer);
    this.stop?.abort();
    this.stop = new AbortController();
    this.asked += 1;
    const asked = this.asked;
    try {
      const answer = await fetch("/api/v1/validate?report=true", {
        method: "POST",
        headers: csrf({ "content-type": "application/json" }),
        body: JSON.stringify({ kind: this.kind, source: text }),
        signal: this.stop.signal,
      });
      const told = await answer.json();
      if (asked !== this.asked) return;
      if (answer.ok) this.told({ problems: told.problems, valid: told.valid });
      else this.told({ failed: told.error ?? `Kennel answered ${answer.status}` });
    } catch (error) {
      if (error.name !== "AbortError" && asked === this.asked) this.told({ failed: "Could not reach Kennel. Is it still running?" });
    }
  }
}
