// Puts the parts together: a call, what is said in it, and the page.

import { Call } from "./call.js";
import { Conversation } from "./conversation.js";
import { Devices } from "./devices.js";
import { Ear, percentile } from "./ear.js";
import { Meter } from "./meter.js";
import { Picture } from "./picture.js";
import { Recording } from "./recording.js";
import { Settings } from "./settings.js";
import { Timeline, clock, tenths } from "./timeline.js";

const byId = (id) => document.getElementById(id);
const page = {
  state: byId("state"),
  clock: byId("clock"),
  call: byId("call"),
  callLabel: byId("call-label"),
  mute: byId("mute"),
  alert: byId("alert"),
  announcement: byId("announcement"),
  speaker: byId("speaker"),
  empty: byId("empty"),
  userVoice: byId("user-voice"),
  userName: byId("user-name"),
  botVoice: byId("bot-voice"),
  figures: byId("figures"),
  picture: byId("call-picture"),
  disturbances: byId("disturbances"),
  fixed: byId("fixed"),
  typing: byId("typing"),
  text: byId("text"),
  send: byId("send"),
};
const meters = {
  user: new Meter(byId("user-scope"), byId("user-level")),
  bot: new Meter(byId("bot-scope"), byId("bot-level")),
};
const timeline = new Timeline(byId("timeline"), () => announce("Copied."));
const recording = new Recording(byId("recording"), byId("player"), byId("files"), (time) =>
  picture.point(time),
);
const picture = new Picture(byId("strip"), byId("picture"), (time) => recording.seek(time));
const settings = new Settings({
  part: byId("service"),
  model: byId("model"),
  voice: byId("voice"),
  instructions: byId("instructions"),
  chosen: byId("chosen"),
});
const devices = new Devices(byId("microphone"), byId("loudspeaker"), page.speaker, changeMicrophone);

const PICTURE_EVERY_MS = 100;

let call = null;
let conversation = null;
let phase = "ready"; // then asking, connecting, live, unstable; at last ended, or failed
let isMuted = false;
let began = 0;
let audio = null;
let ear = null;
let drawn = 0;
let canDisturb = false;

const seconds = () => (performance.now() - began) / 1000;

function startCall() {
  conversation = new Conversation((entry) => {
    page.empty.hidden = true;
    timeline.show(entry);
    picture.show(entry);
    ear.follow(entry, performance.now());
    showFigures();
  });
  ear = new Ear(meters, conversation, seconds);
  timeline.clear();
  picture.clear();
  recording.clear();
  page.empty.hidden = false;
  page.picture.hidden = false;
  showProblem("");
  showFigures();
  began = performance.now();
  setMuted(false);
  // Browsers let sound play only from within a click, and this is one.
  audio = new AudioContext();
  const listener = {
    asking: () => enter("asking"),
    microphone: (stream) => {
      meters.user.attach(audio, stream);
      devices.list();
    },
    connecting: () => enter("connecting"),
    heard: (stream) => {
      page.speaker.srcObject = stream;
      page.speaker.play().catch(() => {});
      meters.bot.attach(audio, stream);
    },
    live: () => {
      if (phase === "connecting") {
        began = performance.now();
        conversation.note(seconds(), "The call began.");
        announce("Connected.");
      }
      enter("live");
    },
    unstable: () => {
      enter("unstable");
      announce("Connection interrupted.");
    },
    message: (message) => {
      conversation.receive(seconds(), message);
      // Whatever was wrong is so no more.
      if (message.type === "bot-started-speaking") showProblem("");
      if (message.type === "server-message") {
        const { type, ended, id, secs } = message.data ?? {};
        if (type === "recording") recording.expect(id, secs - seconds());
        if (type === "problem") showProblem(conversation.entries.at(-1).text);
        if (type === "note") showProblem("");
        if (ended) own.hangUp();
      }
      show();
    },
    ended: (reason, isServerGone) => endCall(reason, isServerGone),
  };
  const own = new Call(listener, settings.choice, devices.microphone);
  call = own;
  call.start();
  requestAnimationFrame(tick);
}

function endCall(reason, isServerGone) {
  const wasLive = phase === "live" || phase === "unstable";
  call = null;
  page.speaker.srcObject = null;
  meters.user.detach();
  meters.bot.detach();
  audio.close();
  conversation.end(seconds());
  if (reason) showProblem(reason);
  if (reason && wasLive) conversation.problem(seconds(), reason);
  if (wasLive) conversation.note(seconds(), `The call ended after ${clock(seconds())}.`);
  picture.grow(seconds());
  announce(wasLive ? "The call ended." : "");
  if (wasLive && !isServerGone) recording.load();
  setMuted(false);
  enter(wasLive ? "ended" : page.alert.textContent ? "failed" : "ready");
}

function enter(next) {
  phase = next;
  show();
}

function setMuted(next) {
  isMuted = next;
  call?.mute(isMuted);
  show();
}

function show() {
  const isCalling = call !== null;
  page.call.classList.toggle("hang-up", isCalling);
  page.callLabel.textContent = isCalling ? "Hang up" : "Call";
  const canMute = phase === "live" || phase === "unstable";
  // A button that can no longer be pressed loses the focus, and the keyboard its place.
  const isLost = document.activeElement?.matches("#mute, #text, #send, #disturbances *");
  if (!canMute && isLost) page.call.focus();
  page.mute.disabled = !canMute;
  page.mute.setAttribute("aria-pressed", String(isMuted));
  page.text.disabled = page.send.disabled = !canMute;
  page.disturbances.hidden = !canDisturb || !canMute;
  settings.isFixed = isCalling;
  page.fixed.hidden = !isCalling;
  page.clock.hidden = !isCalling || phase === "asking" || phase === "connecting";
  page.state.textContent = stateText();
  page.userVoice.classList.toggle("active", isCalling && conversation.isUserSpeaking);
  page.botVoice.classList.toggle("active", isCalling && conversation.isBotSpeaking);
  page.userVoice.classList.toggle("muted", isMuted);
  page.userName.textContent = isMuted ? "Muted" : "You";
  document.body.dataset.phase = phase;
}

function stateText() {
  switch (phase) {
    case "ready":
      return "Ready";
    case "asking":
      return "Waiting for the microphone";
    case "connecting":
      return "Connecting";
    case "unstable":
      return "Connection interrupted";
    case "ended":
      return "Call ended";
    case "failed":
      return "Not connected";
  }
  if (conversation.isUserSpeaking) return "You are speaking";
  if (conversation.isBotSpeaking) return `${timeline.botName} is speaking`;
  if (conversation.isCalling) return "Looking something up";
  return isMuted ? "You are muted" : "Listening";
}

function showProblem(text) {
  page.alert.textContent = text;
}

// How long the user has waited, over the whole call.
function showFigures() {
  const answers = conversation.answers;
  page.figures.hidden = answers.length === 0;
  if (answers.length === 0) return;
  const [p50, p95] = [50, 95].map((percent) => tenths(percentile(answers, percent)));
  page.figures.textContent = `Answered after ${p50} (p50), ${p95} (p95)`;
}

async function changeMicrophone() {
  try {
    await call?.useMicrophone(devices.microphone, isMuted);
  } catch (error) {
    showProblem(error.message);
  }
}

function say(text) {
  if (!call || !text) return;
  conversation.typed(seconds(), text);
  call.say(text);
  page.text.value = "";
}

function announce(text) {
  page.announcement.textContent = text;
}

function tick(now) {
  if (!call) return;
  meters.user.update(now);
  meters.bot.update(now);
  page.clock.textContent = clock(seconds());
  ear.update(now);
  if (phase === "live" || phase === "unstable") {
    picture.hear(seconds(), meters.user.level, meters.bot.level);
    if (now - drawn > PICTURE_EVERY_MS) {
      drawn = now;
      picture.grow(seconds());
    }
  }
  requestAnimationFrame(tick);
}

async function introduce() {
  let about;
  try {
    const response = await fetch("api/about");
    about = await response.json();
  } catch {
    showProblem("The server does not answer. Start pipecat-hydra web again and reload this page.");
    return;
  }
  const isEmulator = about.service === "emulator";
  const name = isEmulator ? "Emulator" : "Hydra";
  timeline.botName = name;
  byId("bot-name").textContent = name;
  byId("bot-lane").textContent = name;
  byId("badge-name").textContent = name;
  byId("badge-detail").textContent = isEmulator
    ? "in place of Hydra"
    : [about.model, about.voice].filter(Boolean).join(", ");
  byId("badge").classList.toggle("emulator", isEmulator);
  byId("badge").hidden = false;
  byId(isEmulator ? "emulator-invitation" : "hydra-invitation").hidden = false;
  for (const part of document.querySelectorAll(".own-script")) part.hidden = about.script !== "own";
  canDisturb = about.can_disturb;
  settings.offer(about);
  page.text.maxLength = about.text_limit;
  showLinks(about);
}

function showLinks({ version, links, prebuilt }) {
  const parts = [`pipecat-hydra ${version}`];
  const pages = prebuilt ? { ...links, "Pipecat’s prebuilt page": prebuilt } : links;
  for (const [name, address] of Object.entries(pages)) {
    const link = document.createElement("a");
    link.textContent = name;
    link.href = address;
    link.target = "_blank";
    link.rel = "noopener";
    parts.push(link);
  }
  byId("about").replaceChildren(
    ...parts.flatMap((part, place) => (place ? [document.createTextNode(" · "), part] : [part])),
  );
}

page.call.addEventListener("click", () => (call ? call.hangUp() : startCall()));
page.mute.addEventListener("click", () => {
  setMuted(!isMuted);
  announce(isMuted ? "Muted." : "Not muted.");
});
page.typing.addEventListener("submit", (event) => {
  event.preventDefault();
  say(page.text.value.trim());
});
page.disturbances.addEventListener("click", ({ target }) => {
  const what = target.closest("button")?.dataset.what;
  if (what) call?.disturb(what);
});
document.addEventListener("visibilitychange", () => ear?.forget());
// Without a word, the server would wait for half a minute whether the page comes back.
addEventListener("pagehide", () => call?.hangUp());
devices.list();
show();
introduce();
