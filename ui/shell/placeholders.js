// Noise for places whose picture is on its way, as a style sheet can use it: --static.
const grains = document.createElement('canvas');
grains.width = grains.height = 32;
const ink = grains.getContext('2d');
const cells = ink.createImageData(32, 32);
for (let i = 0; i < cells.data.length; i += 4) {
  for (let c = 0; c < 3; c++) cells.data[i + c] = 128 + 110 * (Math.random() + Math.random() + Math.random() - 1.5);
  cells.data[i + 3] = 255;
}
ink.putImageData(cells, 0, 0);
document.documentElement.style.setProperty('--static', `url(${grains.toDataURL()})`);
