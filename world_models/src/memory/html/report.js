"use strict";
for (const player of document.querySelectorAll(".player")) {
  const sheets = [...player.querySelectorAll("img")];
  const canvases = [...player.querySelectorAll("canvas")];
  const slider = player.querySelector("input");
  const button = player.querySelector("button");
  const [eyes, error] = player.querySelectorAll(".clock span");
  const context = Number(player.dataset.context);
  const columns = Number(player.dataset.columns);
  const mse = player.dataset.mse.split(" ");

  const draw = () => {
    const step = Number(slider.value);
    for (const canvas of canvases) {
      const frame = step - canvas.dataset.first;
      const shown = frame >= 0 && frame < canvas.dataset.count;
      canvas.classList.toggle("empty", !shown);
      const { width, height } = canvas;
      const pen = canvas.getContext("2d");
      pen.clearRect(0, 0, width, height);
      if (shown) {
        const x = (frame % columns) * width;
        const y = Math.floor(frame / columns) * height;
        pen.drawImage(sheets[canvas.dataset.sheet], x, y, width, height, 0, 0, width, height);
      }
    }
    const blind = step - context + 1;
    const words = blind > 0 ? `eyes shut for ${blind} step${blind > 1 ? "s" : ""}` : "eyes open";
    eyes.innerHTML = `step ${step + 1} · <b>${words}</b>`;
    error.textContent = blind > 0 ? `error of this frame ${mse[blind - 1]}` : "";
    slider.setAttribute("aria-valuetext", `step ${step + 1}, ${words}`);
  };

  let timer = 0;
  const pause = () => {
    clearInterval(timer);
    timer = 0;
    player.classList.remove("playing");
    button.setAttribute("aria-label", "play");
  };
  const play = () => {
    player.classList.add("playing");
    button.setAttribute("aria-label", "pause");
    timer = setInterval(() => {
      slider.value = slider.value === slider.max ? 0 : Number(slider.value) + 1;
      draw();
    }, 1000 / 12);
  };
  button.addEventListener("click", () => (timer ? pause() : play()));
  slider.addEventListener("input", () => {
    pause();
    draw();
  });
  Promise.all(sheets.map((sheet) => sheet.decode())).then(() => {
    const first = player === document.querySelector(".player");
    if (first && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      slider.value = Math.max(0, context - 8);
      play();
    }
    draw();
  });
}
