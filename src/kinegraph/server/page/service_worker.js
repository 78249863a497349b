// Keeps the files of the page, so that it works without a network after the first load.
// `kinegraph web` writes this file with the list of files and their checksum.

const CHECKSUM = "@CHECKSUM@";
const FILES = ["@FILES@"];
// an isolated page may share memory between threads; web servers rarely send these headers
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

const scope = /** @type {any} */ (globalThis);
const PREFIX = `kinegraph ${scope.registration.scope} `, NAME = PREFIX + CHECKSUM;

scope.addEventListener("install", (/** @type {any} */ event) => {
  const keep = async () => {
    const cache = await caches.open(NAME);
    await cache.addAll(FILES.map((name) => new Request(name, { cache: "reload" })));
    await scope.skipWaiting();
  };
  event.waitUntil(keep());
});

scope.addEventListener("activate", (/** @type {any} */ event) => {
  const clean = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await scope.clients.claim();
  };
  event.waitUntil(clean());
});

scope.addEventListener("fetch", (/** @type {any} */ event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  const answer = async () => {
    const cache = await caches.open(NAME);
    const found = (await cache.match(request, { ignoreSearch: true })) ?? (await fetch(request));
    const headers = new Headers(found.headers);
    for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
    return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
  };
  event.respondWith(answer());
});
