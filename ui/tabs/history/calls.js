// Questions to the program, one at a time: each answer carries its question's number, so that none is taken for another.
const SILENT = { problem: 'The program does not answer. Check that it still runs, then try again.', next: { label: 'Try again' } };

class Calls {
  // send(fields): starts a call; take() gets its answer.  waits(what): a call takes long enough to be named; '' ends that.
  constructor(send, waits = () => {}) {
    this.send = send;
    this.waits = waits;
    this.waiting = [];
    this.now = null;
    this.count = 0;
  }

  // The answer, or null if a newer question of the same kind has replaced this one (only where latest says so).
  ask(what, fields = {}, { latest = false } = {}) {
    return new Promise((resolve) => {
      if (latest) {
        for (const old of this.waiting.filter((one) => one.what === what)) old.resolve(null);
        this.waiting = this.waiting.filter((one) => one.what !== what);
      }
      this.waiting.push({ what, fields, resolve });
      this.next();
    });
  }

  next() {
    if (this.now || !this.waiting.length) return;
    this.now = this.waiting.shift();
    this.count += 1;
    this.now.number = `${Date.now()}-${this.count}`;
    this.timer = setTimeout(() => this.end(SILENT), 30000);
    this.named = setTimeout(() => this.waits(this.now?.what || ''), 300);
    this.send({ ...this.now.fields, do: this.now.what, ask: this.now.number });
  }

  take(value) { if (value && this.now && value.ask === this.now.number) this.end(value); }

  end(value) {
    const { resolve } = this.now;
    clearTimeout(this.timer);
    clearTimeout(this.named);
    this.waits('');
    this.now = null;
    resolve(value);
    this.next();
  }
}
