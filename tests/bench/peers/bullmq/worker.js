// A BullMQ worker as its documentation has it: one GET a job, fifty at once, the answer kept as the job's value.
// `node worker.js REDIS_PORT UPSTREAM`; `node worker.js REDIS_PORT enqueue COUNT` puts jobs there and ends.
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";

const QUEUE = "bench";
const CHUNK = 1000;
const connection = new Redis({ host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null });

if (process.argv[3] === "enqueue") {
  const queue = new Queue(QUEUE, { connection });
  const count = Number(process.argv[4]);
  for (let first = 0; first < count; first += CHUNK) {
    const places = Array.from({ length: Math.min(CHUNK, count - first) }, (_, i) => first + i);
    await queue.addBulk(places.map((place) => ({ name: "get", data: { path: `/items/${place}` } })));
  }
  await queue.close();
  await connection.quit();
} else {
  const get = async (path) => {
    const answer = await fetch(process.argv[3] + path);
    return { status: answer.status, body: await answer.text() };
  };
  const worker = new Worker(QUEUE, (job) => get(job.data.path), { connection, concurrency: 50 });
  await worker.waitUntilReady();
  console.log(`ready traffic=${process.argv[3]}`);
}
