// What takes how much of the disk, and the rule by which old pictures go into the bin.
class Disk {
  constructor(part, ask) {
    this.part = part;
    this.ask = ask;
    const dialog = part('disk-dialog');
    dialog.addEventListener('click', (event) => { if (event.target === dialog || event.target.closest('[data-do="close-disk"]')) dialog.close(); });
    dialog.addEventListener('keydown', (event) => event.stopPropagation());
    part('rule').addEventListener('submit', (event) => { event.preventDefault(); this.save(); });
  }

  async open() {
    this.part('rule-said').textContent = '';
    const found = await this.ask('disk');
    if (found.problem) return found;
    fillList(this.part('disk-rows'), found.rows);
    this.rule(found);
    this.part('disk-dialog').showModal();
    return found;
  }

  rule({ days, megabytes }) {
    this.part('days').value = days || '';
    this.part('megabytes').value = megabytes || '';
  }

  async save() {
    const found = await this.ask('retention', { days: Number(this.part('days').value), megabytes: Number(this.part('megabytes').value) });
    if (!found.problem) this.rule(found);
    this.part('rule-said').textContent = found.problem || found.said;
  }
}
