import HTTPTypes
import HoldfastBroker
import HoldfastProtocol
import Hummingbird
import NIOCore

extension Gateway {
    /// Adds the gateway's HTTP endpoints to a Hummingbird router, each below the configured prefix:
    /// `/api/…`, `/metrics`, `/health`, `/ready`, `/holdfast.js` and the other modules of the browser client (`http.js`, `tabs.js`,
    /// `tabs-worker.js`, `outbox.js`, `store.js`, `reconnecting-websocket.js`, `diagnose.js`), `/diagnose`, and what `/` and `/socket` say
    /// to a plain request.
    public func addRoutes<Context: RequestContext>(to router: some RouterMethods<Context>) {
        let root =
            self.configuration.prefix.isEmpty ? router.group() : router.group(RouterPath(self.configuration.prefix))
        self.addOpenRoutes(to: root)
        let guarded = root.group().add(middleware: APIKeyMiddleware(configuration: self.configuration))
        guarded.get("metrics") { _, _ in await self.metricsResponse() }
        let api = guarded.group("api")
        self.addPublishRoutes(to: api)
        self.addSessionRoutes(to: api)
        for (path, method) in [
            ("api/publish", HTTPRequest.Method.post), ("api/batch", .post), ("api/history", .get),
            ("api/sessions", .get),
            ("api/sessions/:id", .get), ("api/sessions/:id/disconnect", .post), ("metrics", .get), ("health", .get),
            ("ready", .get), ("socket", .get), ("", .get),
        ] + self.browserFiles.map({ ($0.path, .get) }) {
            self.refuseOtherMethods(of: path, than: method, root)
        }
    }

    /// Adds `/metrics`, and an index at `/`, without a key: for a listener of its own (`metrics.prometheus`).
    public func addMetricsRoutes<Context: RequestContext>(to router: some RouterMethods<Context>) {
        router.get("metrics") { _, _ in await self.metricsResponse() }
        router.get("") { _, _ in
            Response(
                status: .ok,
                headers: [.contentType: "text/html; charset=utf-8"],
                body: ResponseBody(
                    byteBuffer: ByteBuffer(
                        string: "<!doctype html><title>Holdfast</title><a href=\"/metrics\">/metrics</a>\n"))
            )
        }
    }

    private func metricsResponse() async -> Response {
        Response(
            status: .ok,
            headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: await self.prometheusText()))
        )
    }

    private var browserFiles: [BrowserFile] {
        BrowserFile.client + (self.configuration.diagnose ? BrowserFile.diagnosis : [])
    }

    /// The router knows no 405 (RFC 9110 §15.5.6).
    private func refuseOtherMethods<Context: RequestContext>(
        of path: String,
        than method: HTTPRequest.Method,
        _ root: RouterGroup<Context>
    ) {
        let allowed = method == .get ? [.get, .head] : [method]
        var error = APIError(.methodNotAllowed, "This path knows only \(method.rawValue).", code: "method_not_allowed")
        error.allow = allowed.map(\.rawValue).joined(separator: ", ")
        let answer = error.answer
        for other in [HTTPRequest.Method.get, .head, .post, .put, .patch, .delete] where !allowed.contains(other) {
            root.on(RouterPath(path), method: other) { _, _ in answer }
        }
    }

    private func addOpenRoutes<Context: RequestContext>(to root: RouterGroup<Context>) {
        root.get("health") { _, _ in
            var response = Response.json { $0.member("status", "ok") }
            // So that a page of another origin can find out whether anything answers.
            response.headers[.accessControlAllowOrigin] = "*"
            return response
        }
        root.get("ready") { _, _ in
            if self.isReady { return Response.json { $0.member("status", "ok") } }
            let why = self.isDraining ? "the gateway is being stopped" : "the broker does not answer"
            return APIError(.serviceUnavailable, why, code: "not_ready").answer
        }
        for file in self.browserFiles {
            root.get(RouterPath(file.path)) { request, _ in file.response(to: request) }
        }
        for path in ["", "socket"] {
            root.get(RouterPath(path)) { _, _ in
                // SocketShark's status for a plain request on its port (socketshark.md §2).
                var response = Response.text(
                    "This is a Holdfast gateway. Connect to it with a WebSocket.\n", status: .upgradeRequired
                )
                response.headers[.upgrade] = "websocket"
                response.headers[.accessControlAllowOrigin] = "*"
                return response
            }
        }
    }
}
