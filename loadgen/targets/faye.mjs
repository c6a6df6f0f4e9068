// A Bayeux server for targets/faye.toml, as its documentation shows it. npm install faye; node faye.mjs [PORT]
import http from "node:http";
import faye from "faye";

const bayeux = new faye.NodeAdapter({ mount: "/bayeux", timeout: 45 });
const server = http.createServer();
bayeux.attach(server);
server.listen(Number(process.argv[2] ?? 9060), "127.0.0.1");
