// A group of buttons is one stop of the Tab key; the arrows move within it.  Dialogs and groups with fields keep their own ways.
const GROUPS = '[role="group"], .past';
const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function members(target) {
  const group = target.closest?.(GROUPS);
  if (!group || !target.matches('button') || group.closest('dialog') || group.querySelector('input, select, textarea, [role="slider"]')) return [];
  return [...group.querySelectorAll('button')].filter((one) => one.offsetParent && !one.disabled);
}

// Tab passes over the others; they can be reached again once the focus has moved.
function leave(others) {
  const skipped = others.filter((one) => one.tabIndex === 0);
  for (const one of skipped) one.tabIndex = -1;
  setTimeout(() => { for (const one of skipped) one.removeAttribute('tabindex'); });
}

function moveWithin(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', moveWithin, true); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key === 'Tab' || event.key in MOVES)) return;
  const all = members(event.target);
  if (all.length < 2) return;
  if (event.key === 'Tab') { leave(all.filter((one) => one !== event.target)); return; }
  event.preventDefault();
  all[(all.indexOf(event.target) + MOVES[event.key] + all.length) % all.length].focus();
}
document.addEventListener('keydown', moveWithin, true);
