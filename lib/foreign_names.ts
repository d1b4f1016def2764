/**
 * What to write here for names of other servers: options of `Deno.serve`, `Bun.serve`, `node:https`,
 * Express, and of ESP-IDF's structures.
 *
 * @module
 */

const TLS = "write cert and key (clientAuth, alpnProtocols …) beside the other options";
const HANDLER = "give the handler as second argument, serve(options, handler)";
const CLIENT_AUTH = 'write clientAuth: { ca, mode: "required" }, or mode: "optional"';
const ERRORS = 'write server.onError(500, handler), or listen for "error" events';
const NOTHING = "leave it out: there is no such thing here";
const RUNTIME = "leave it out: the runtime's TLS decides it";
const ROUTES = "write server.route({ uri, method, handler }) for each";
const NO_UNIX = "leave it out: httpsd listens on a hostname and port only";

/** Options of other servers, and what to write for them in a server's options. */
export const SERVER_NAMES: Readonly<Record<string, string>> = {
  // Deno.serve, Bun.serve
  tls: TLS,
  handler: HANDLER,
  host: "write hostname",
  onListen: 'do it after await serve(), or listen for "start" events',
  onError: ERRORS,
  error: ERRORS,
  routes: ROUTES,
  static: "use serveFiles(), or server.route() for each",
  websocket: "write server.route({ uri, websocket: { … } }), or call upgradeWebSocket()",
  development: NOTHING,
  idleTimeout: "write idleTimeoutMs, in ms",
  maxRequestBodySize: "write maxBodyBytes",
  unix: NO_UNIX,
  path: NO_UNIX,
  transport: "leave it out: httpsd listens for TCP",
  reusePort: "leave it out: each port has one process",
  certFile: "write cert, which takes a path too",
  keyFile: "write key, which takes a path too",
  certChain: "write cert",
  privateKey: "write key",
  certDer: "leave it out: cert says the same",
  alpn: "write alpnProtocols",
  serverName: "write identities: [{ cert, key, names }]",
  servername: "write identities: [{ cert, key, names }]",
  lowMemoryMode: NOTHING,
  h2: "write http2",
  h3: NOTHING,
  http3: NOTHING,
  // node:https, node:tls, node:http
  ca: CLIENT_AUTH,
  requestCert: CLIENT_AUTH,
  rejectUnauthorized: CLIENT_AUTH,
  ALPNProtocols: 'write alpnProtocols: ["http/1.1"]',
  ALPNCallback: "write certSelect, which may answer with alpnProtocols",
  SNICallback: "write certSelect, or identities",
  secureContext: TLS,
  secureProtocol: "write tlsVersion, or minVersion and maxVersion",
  secureOptions: RUNTIME,
  honorCipherOrder: RUNTIME,
  ecdhCurve: RUNTIME,
  sigalgs: RUNTIME,
  dhparam: RUNTIME,
  crl: "write verifyClient, and look at the list there",
  ticketKeys: "leave it out: tickets are for one process (see sessionTickets)",
  sessionTimeout: RUNTIME,
  sessionIdContext: RUNTIME,
  handshakeTimeout: "write handshakeTimeoutMs",
  headersTimeout: "write headersTimeoutMs",
  requestTimeout: "write requestTimeoutMs",
  keepAliveTimeout: "write idleTimeoutMs",
  keepAliveInitialDelay: "write keepAlive: { idleMs }",
  timeout: "write idleTimeoutMs, requestTimeoutMs or handlerTimeoutMs",
  connectionsCheckingInterval: NOTHING,
  insecureHTTPParser: "leave it out: requests are read strictly",
  maxHeaderSize: "write maxReqHdrLen",
  maxHeadersCount: "write maxReqFields",
  maxConnections: "write maxOpenSockets",
  maxRequestsPerSocket: "write maxRequestsPerConnection",
  backlog: "write backlogConn",
  noDelay: "leave it out: it is always on",
  trustProxy: "write proxyProtocol: { trustedProxies }",
  https: 'leave it out, or write transportMode: "insecure" for plain HTTP',
  http: 'write transportMode: "insecure"',
  // httpd_ssl_config_t, httpd_config_t
  httpd: "write its members beside the other options",
  servercert: "write cert",
  prvtkey_pem: "write key",
  cacert_pem: "write cacert",
  port_secure: "write port",
  port_insecure: "write port",
  server_port: "write port",
  ctrl_port: NOTHING,
  user_cb: "write userCallback",
  ssl_userdata: "write tlsUserData",
  cert_select_cb: "write certSelect",
  alpn_protos: "write alpnProtocols",
  ciphersuites_list: "write ciphers",
  uri_match_fn: "write uriMatch",
  lru_purge_enable: "write lruPurge",
  keep_alive_enable: "write keepAlive",
  keep_alive_idle: "write keepAlive: { idleMs }",
  linger_timeout: "write lingerMs",
  enable_so_linger: "write lingerMs",
  recv_wait_timeout: "write recvWaitTimeoutMs, in ms",
  send_wait_timeout: "write sendWaitTimeoutMs, in ms",
  global_user_ctx: "write globalUserContext",
  global_user_ctx_free_fn: "write globalUserContextFree",
  task_priority: NOTHING,
  stack_size: NOTHING,
  core_id: NOTHING,
};

/** What other servers call the names of an identity, and what to write for them. */
export const HOST_NAMES: Readonly<Record<string, string>> = {
  serverName: 'write names: ["…"]',
  servername: 'write names: ["…"]',
  hostname: 'write names: ["…"]',
  host: 'write names: ["…"]',
  domain: 'write names: ["…"]',
  domains: 'write names: ["…"]',
  sni: 'write names: ["…"]',
  identities: "write each identity beside the others, not inside",
};

/** Members of other routers' routes, and what to write for them. */
export const ROUTE_NAMES: Readonly<Record<string, string>> = {
  path: "write uri",
  url: "write uri",
  pattern: "write uri",
  pathname: "write uri",
  route: "write uri",
  methods: 'write one route for each method, or method: "ANY"',
  fetch: "write handler",
  handle: "write handler",
  callback: "write handler",
  user_ctx: "write context",
  is_websocket: "write websocket: { … } in place of handler",
  upgrade: "write websocket: { … } in place of handler",
};

/** Options of other WebSocket servers, and what to write for them. */
export const WEBSOCKET_NAMES: Readonly<Record<string, string>> = {
  protocol: 'write protocols: ["…"]',
  supported_subprotocol: 'write protocols: ["…"]',
  handleProtocols: 'write protocols: ["…"]',
  perMessageDeflate: "write deflate",
  compression: "write deflate",
  idleTimeout: "write idleTimeoutMs or pingPeriodMs, in ms",
  maxPayload: "write maxPayloadBytes",
  maxPayloadLength: "write maxPayloadBytes",
  backpressureLimit: "write maxBufferedBytes",
  closeOnBackpressureLimit: "leave it out: more than maxBufferedBytes closes",
  sendPings: "write pingPeriodMs: Infinity for none",
  publishToSelf: "give broadcast() a filter",
  drain: "await ws.send()",
  open: "write onOpen",
  message: "write onMessage",
  close: "write onClose",
  error: "write onError",
  ping: "write onPing",
  pong: "write onPong",
  upgrade: "write onUpgrade",
  verifyClient: "write onUpgrade, and return a Response to refuse",
  ws_pre_handshake_cb: "write onUpgrade",
  ws_post_handshake_cb: "write onOpen",
  handle_ws_control_frames: "write manualControlFrames",
};
