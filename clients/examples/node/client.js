#!/usr/bin/env node
// Loads a workload on a running vmglue, runs it, counts its events and prints a line a second, as vmstat(8) does.
//   node client.js ADDRESS [WORKLOAD.toml]
// Over TLS if VMGLUE_TLS_CA, VMGLUE_TLS_CERT and VMGLUE_TLS_KEY name the files of an operator.
import grpc from "@grpc/grpc-js";
import { randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { discover } from "./reflection.js";

const CHUNK_BYTES = 1 << 20;
const EVENT_BYTES = 64;
const DATA = fileURLToPath(new URL("../../data/", import.meta.url));
const COLUMNS = [
  ["time", 8], ["r", 4], ["w", 4], ["avm", 7], ["fre", 7], ["flt", 8], ["pi", 6], ["so", 5], ["si", 5], ["events", 8],
];

function credentials() {
  const { VMGLUE_TLS_CA: ca, VMGLUE_TLS_KEY: key, VMGLUE_TLS_CERT: cert } = process.env;
  if (!ca) return grpc.credentials.createInsecure();
  return grpc.credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(cert));
}

/** Sends a workload and its traces: the head first, then each file in pieces. */
function load(client, file) {
  const toml = readFileSync(file, "utf8");
  return new Promise((resolve, reject) => {
    const call = client.Load((error, answer) => (error ? reject(error) : resolve(answer)));
    call.write({ head: { request_id: randomUUID(), name: path.basename(file), toml } });
    for (const trace of traces(toml, path.dirname(file))) {
      const content = readFileSync(trace);
      for (let at = 0; at < content.length; at += CHUNK_BYTES) {
        call.write({ chunk: { file: path.basename(trace), data: content.subarray(at, at + CHUNK_BYTES) } });
      }
    }
    call.end();
  });
}

/** The trace files that a workload names: beside it, or shipped with vmglue. */
function traces(toml, folder) {
  const names = new Set([...toml.matchAll(/^\s*trace\s*=\s*"(.+)"/gm)].map((match) => match[1]));
  return [...names].map((name) => {
    const places = [path.join(folder, name), path.join(DATA, "traces", `${name}.vmtrace`)];
    const found = places.find((place) => existsSync(place));
    if (found === undefined) throw new Error(`${name}: no such trace; looked at ${places.join(" and ")}`);
    return found;
  });
}

/** Counts new events of all services until the call is cancelled. */
function watch(client) {
  const seen = { events: 0 };
  const call = client.WatchEvents({ follow: true });
  call.on("data", (chunk) => (seen.events += chunk.records.length / EVENT_BYTES));
  call.on("error", (error) => {
    if (error.code !== grpc.status.CANCELLED) seen.error = error;
  });
  return { seen, stop: () => call.cancel() };
}

function line(cells) {
  console.log(COLUMNS.map(([, width], column) => String(cells[column]).padStart(width)).join(""));
}

function show(progress, events) {
  const used = Number(progress.active_pages) + Number(progress.inactive_pages) + Number(progress.wired_pages);
  const faults = Number(progress.minor_faults) + Number(progress.major_faults);
  line([
    `${(Number(progress.now_us) / 1e6).toFixed(2)}s`, progress.processes_in_memory, progress.processes_swapped, used,
    progress.free_pages, faults, progress.major_faults, progress.swapouts, progress.swapins, events,
  ]);
}

/** Runs what is loaded, with a line a second; the report. */
function run(client, seen) {
  return new Promise((resolve, reject) => {
    let report;
    const call = client.Run({ request_id: randomUUID(), progress_interval_ms: 1000 });
    call.on("data", ({ progress, report_json: json, failure }) => {
      if (progress) show(progress, seen.events);
      else if (json) report = JSON.parse(json);
      else reject(new Error(failure.text));
    });
    call.on("error", reject);
    call.on("end", () => (report ? resolve(report) : reject(new Error("the run's stream ended without a report"))));
  });
}

async function main([address, file = path.join(DATA, "workloads", "tiny.toml")]) {
  if (!address) throw new Error("usage: node client.js ADDRESS [WORKLOAD.toml]");
  const { name, client } = await discover(address, credentials(), "MachineService");
  console.log(`${name} at ${address}`);
  const loaded = await load(client, file);
  console.log(`${path.basename(file)}: ${loaded.programs} programs, ${loaded.ram_pages} pages of memory`);
  line(COLUMNS.map(([heading]) => heading));
  const { seen, stop } = watch(client);
  try {
    const report = await run(client, seen);
    const { progress } = await new Promise((resolve, reject) =>
      client.GetStatus({}, (error, answer) => (error ? reject(error) : resolve(answer))),
    );
    show(progress, seen.events);
    if (seen.error) throw seen.error;
    console.log(`${report.end}: event hash ${report.event_hash}`);
  } finally {
    stop();
    client.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`client.js: ${error.details || error.message}`);
  process.exitCode = 1;
});
