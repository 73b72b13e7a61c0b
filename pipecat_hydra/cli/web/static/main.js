// Puts the parts together: a call, what is said in it, and the page.

import { Call } from "./call.js";
import { Conversation } from "./conversation.js";
import { Meter } from "./meter.js";
import { Timeline, clock } from "./timeline.js";

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
};
const meters = {
  user: new Meter(byId("user-scope"), byId("user-level")),
  bot: new Meter(byId("bot-scope"), byId("bot-level")),
};
const timeline = new Timeline(byId("timeline"), byId("newest"));

// How long the bot must be quiet until a barge-in has silenced it: longer than any pause
// between its words, since what is still on the way to the ear is part of it.
const QUIET_MS = 400;
const BARGE_IN_LIMIT_MS = 4_000;

let call = null;
let conversation = null;
let phase = "ready"; // then asking, connecting, live, unstable; at last ended, or failed
let isMuted = false;
let began = 0;
let audio = null;
let interruption = null;

const seconds = () => (performance.now() - began) / 1000;

function startCall() {
  conversation = new Conversation((entry) => {
    page.empty.hidden = true;
    timeline.show(entry);
    followInterruption(entry);
  });
  timeline.clear();
  page.empty.hidden = false;
  showProblem("");
  interruption = null;
  began = performance.now();
  setMuted(false);
  // Browsers let sound play only from within a click, and this is one.
  audio = new AudioContext();
  const own = new Call({
    asking: () => enter("asking"),
    connecting: (stream) => {
      enter("connecting");
      meters.user.attach(audio, stream);
    },
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
        const { type, ended } = message.data ?? {};
        if (type === "problem") showProblem(conversation.entries.at(-1).text);
        if (type === "note") showProblem("");
        if (ended) own.hangUp();
      }
      show();
    },
    ended: (reason) => endCall(reason),
  });
  call = own;
  call.start();
  requestAnimationFrame(tick);
}

function endCall(reason) {
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
  announce(wasLive ? "The call ended." : "");
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
  if (!canMute && document.activeElement === page.mute) page.call.focus();
  page.mute.disabled = !canMute;
  page.mute.setAttribute("aria-pressed", String(isMuted));
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

function announce(text) {
  page.announcement.textContent = text;
}

function tick(now) {
  if (!call) return;
  meters.user.update(now);
  meters.bot.update(now);
  page.clock.textContent = clock(seconds());
  if (interruption) measureInterruption(now);
  requestAnimationFrame(tick);
}

// The server knows when it fell silent, but not when that was heard. The page does.
function followInterruption(entry) {
  if (entry.kind !== "interruption" || entry.silentAfter !== null) return;
  if (document.hidden) return; // and deaf: levels are measured when the page is drawn
  interruption = { entry, userBegan: meters.user.began, at: performance.now() };
}

function measureInterruption(now) {
  const { entry, userBegan, at } = interruption;
  const lastHeard = meters.bot.lastHeard;
  const isQuiet = lastHeard !== null && now - lastHeard > QUIET_MS;
  if (!isQuiet && now - at < BARGE_IN_LIMIT_MS) return;
  interruption = null;
  if (isQuiet && userBegan !== null && lastHeard > userBegan) {
    conversation.silentAfter(entry, (lastHeard - userBegan) / 1000);
  }
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
  byId("badge-name").textContent = name;
  byId("badge-detail").textContent = isEmulator
    ? "in place of Hydra"
    : [about.model, about.voice].filter(Boolean).join(", ");
  byId("badge").classList.toggle("emulator", isEmulator);
  byId("badge").hidden = false;
  byId(isEmulator ? "emulator-invitation" : "hydra-invitation").hidden = false;
  for (const part of document.querySelectorAll(".own-script")) part.hidden = about.script !== "own";
  if (about.prebuilt) {
    byId("prebuilt").href = about.prebuilt;
    byId("more").hidden = false;
  }
}

page.call.addEventListener("click", () => (call ? call.hangUp() : startCall()));
page.mute.addEventListener("click", () => {
  setMuted(!isMuted);
  announce(isMuted ? "Muted." : "Not muted.");
});
document.addEventListener("visibilitychange", () => {
  interruption = null;
});
// Without a word, the server would wait for half a minute whether the page comes back.
addEventListener("pagehide", () => call?.hangUp());
show();
introduce();
