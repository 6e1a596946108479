// Builds the tabs that were never opened while the page is idle, or under the pointer, so that a click only shows them.
// A tab is built by the event that Gradio's own row of tabs sends; its components are then in the page, unseen.
const QUIET_MS = 6000; // the run that a first visit begins with has played by then
const APART_MS = 400;
const waiting = new Map(Object.entries(props.value || {}));
const idle = window.requestIdleCallback || ((act) => setTimeout(act, APART_MS));

function build(name) {
  if (!element.isConnected || !waiting.has(name)) return;
  const id = waiting.get(name);
  waiting.delete(name);
  trigger('gradio_tab_select', { component_id: id });
}

// One tab at a time, and none while a picture is being made.
function next() {
  if (!element.isConnected || !waiting.size) return;
  const busy = document.hidden || document.querySelector('.workspace[data-busy="yes"]');
  if (!busy) idle(() => build(waiting.keys().next().value), { timeout: 2000 });
  setTimeout(next, busy ? QUIET_MS : APART_MS);
}

document.addEventListener('pointerover', (event) => {
  const name = event.target.closest?.('#tabs > .tab-wrapper button[data-tab-id]')?.dataset.tabId;
  if (name) build(name);
});
setTimeout(next, QUIET_MS);
