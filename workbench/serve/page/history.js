// The pictures that this browser has made: in its IndexedDB, or for as long as the page is open where that is blocked.

const MOST = 60; // pictures; of 1536 px they are about 4 MB each
const THUMB = 160; // px

let database = null;
let entries = []; // newest first

/** What a request to the database gives, once it is on the disk. Rejects also where the database is gone meanwhile. */
const ask = (mode, request) =>
  new Promise((resolve, reject) => {
    const transaction = database.transaction("pictures", mode);
    const asked = request(transaction.objectStore("pictures"));
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onabort = () => reject(transaction.error);
  });

const opened = () =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open("workbench", 1); // throws where storage is blocked
    request.onupgradeneeded = () => request.result.createObjectStore("pictures", { keyPath: "id", autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    setTimeout(reject, 3000); // some browsers never answer
  });

/** Open what is kept. Resolves to whether it outlives the page. */
export const open = () => (opening ??= begin());
let opening = null;

async function begin() {
  try {
    database = await opened();
    entries = (await ask("readonly", (store) => store.getAll())).reverse();
  } catch {
    database = null;
  }
  return database !== null;
}

export const all = () => entries;

/** Keep a picture: {blob, prompt, seed, ...}. Where there is no room the oldest go. Returns the entry, with its thumbnail. */
export async function add(picture) {
  await open();
  const entry = { ...picture, when: Date.now(), thumb: await thumbnail(picture.blob) };
  entries.unshift(entry);
  while (database) {
    try {
      entry.id = await ask("readwrite", (store) => store.add(entry));
      break;
    } catch (error) {
      if (error?.name !== "QuotaExceededError" || !(await dropOldest())) break; // it stays in memory
    }
  }
  while (entries.length > MOST) await dropOldest();
  return entry;
}

export async function clear() {
  entries = [];
  if (database) await ask("readwrite", (store) => store.clear()).catch(() => {});
}

async function dropOldest() {
  if (entries.length < 2) return false;
  const oldest = entries.pop();
  if (database && oldest.id) await ask("readwrite", (store) => store.delete(oldest.id)).catch(() => {});
  return true;
}

async function thumbnail(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, THUMB / Math.min(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.85);
}
