// The viewer on the page: it keeps what is on view over a reload, and saves files.
const KEPT = 'diffusion-playground-compared';
const root = element.querySelector('.viewer');
const viewer = new Viewer(root, { inside: (run) => trigger('inside', { run }) });
const saving = new Saving(root.querySelector('[data-part="saving"]'), (kind, ask) => trigger('save', { kind, ask, ...kept() }));

// What brings the comparison back: its plan, and the run of each cell.
function kept() {
  const runs = [...viewer.cells.values()].filter((cell) => cell.run).map((cell) => cell.at.concat(cell.run));
  return { plan: viewer.value?.plan || '', runs };
}

function take(value) {
  if (!value) return;
  if (value.state === 'saved') { saving.take(value); return; }
  if (value.state === 'refused') {
    document.dispatchEvent(new CustomEvent('playground:compared', { detail: value }));
    return;
  }
  if (value.started || !viewer.value || value.name !== viewer.value.name) saving.clear();
  viewer.take(value);
  const { state, name, plan } = value;
  document.dispatchEvent(new CustomEvent('playground:compared', { detail: { state, name, ...kept() } }));
  // A reload ends a comparison that is being made; what is there of it comes back.
  if (state !== 'running' || kept().runs.length) try { localStorage.setItem(KEPT, JSON.stringify(kept())); } catch { /* the browser keeps nothing */ }
  // Two values at the same time, of which the page shows the second: what the first one held is asked for.
  const lost = value.made?.some((each) => viewer.cells.get(each.slice(0, 3).join())?.run !== each[3]);
  if (lost) trigger('reopen', { plan, runs: value.made });
}

function remember() {
  let known = null;
  try { known = JSON.parse(localStorage.getItem(KEPT) || 'null'); } catch { return; }
  if (!known?.runs?.length) return;
  if (known.plan) trigger('reopen', known);
  else document.dispatchEvent(new CustomEvent('playground:two', { detail: known.runs.map((each) => each[3]) }));
}

// Noise that nothing has resolved yet.
const empty = root.querySelector('.empty canvas').getContext('2d');
const grain = empty.createImageData(28, 28);
for (let i = 0; i < grain.data.length; i += 4) {
  grain.data.set([...[0, 0, 0].map(() => 128 + 110 * (Math.random() + Math.random() + Math.random() - 1.5)), 255], i);
}
empty.putImageData(grain, 0, 0);

watch('value', () => take(props.value));
take(props.value);
if (!props.value) setTimeout(remember, 0);
