// A hub as the library better-sse makes one: all clients in one channel. What is posted is broadcast to them.
// NODE_PATH=... node better-sse.cjs PORT

const http = require("node:http");
const { createChannel, createSession } = require("better-sse");

const channel = createChannel();

http
  .createServer(async (request, response) => {
    if (request.method === "POST") {
      let text = "";
      for await (const part of request) text += part;
      channel.broadcast(JSON.parse(text), "icinga2.notification");
      response.end();
      return;
    }
    // A comment to idle streams as often as the daemon writes one.
    channel.register(await createSession(request, response, { keepAlive: 15000 }));
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
