// The way from the player to the panel: the button stands below the timeline.
const button = element.querySelector('.fork-here');
button.addEventListener('click', () => {
  document.dispatchEvent(new CustomEvent('playground:pause'));
  window.playgroundFork = true;
  document.querySelector('#panels [role="tablist"] [data-tab-id="fork"]')?.click();
  document.getElementById('fork-panel')?.scrollIntoView({ block: 'nearest' });
});

// Nothing is left before a run is open.
function dock() {
  if (!element.isConnected) { document.removeEventListener('playground:step', dock); return; }
  const place = document.querySelector('#player .below');
  if (place && button.parentElement !== place) place.append(button);
  button.hidden = false;
}
document.addEventListener('playground:step', dock);
document.dispatchEvent(new CustomEvent('playground:where'));
