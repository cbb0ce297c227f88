import HTTPTypes
import HoldfastBroker
import HoldfastProtocol
import Hummingbird
import NIOCore

extension Gateway {
    /// Adds the gateway's HTTP endpoints to a Hummingbird router, each below the configured prefix:
    /// `/api/…`, `/metrics`, `/health`, `/ready`, `/holdfast.js`, and what `/` and `/socket` say to a plain request.
    public func addRoutes<Context: RequestContext>(to router: some RouterMethods<Context>) {
        let root =
            self.configuration.prefix.isEmpty ? router.group() : router.group(RouterPath(self.configuration.prefix))
        self.addOpenRoutes(to: root)
        let guarded = root.group().add(middleware: APIKeyMiddleware(configuration: self.configuration))
        guarded.get("metrics") { _, _ in
            Response(
                status: .ok,
                headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: await self.prometheusText()))
            )
        }
        let api = guarded.group("api")
        self.addPublishRoutes(to: api)
        self.addSessionRoutes(to: api)
        for (path, method) in [
            ("api/publish", HTTPRequest.Method.post), ("api/batch", .post), ("api/history", .get),
            ("api/sessions", .get),
            ("api/sessions/:id", .get), ("api/sessions/:id/disconnect", .post), ("metrics", .get), ("health", .get),
            ("ready", .get), ("holdfast.js", .get), ("socket", .get), ("", .get),
        ] {
            self.refuseOtherMethods(of: path, than: method, root)
        }
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
        root.get("health") { _, _ in Response.json { $0.member("status", "ok") } }
        root.get("ready") { _, _ in
            if self.isReady { return Response.json { $0.member("status", "ok") } }
            let why = self.isDraining ? "the gateway is being stopped" : "the broker does not answer"
            return APIError(.serviceUnavailable, why, code: "not_ready").answer
        }
        root.get("holdfast.js") { request, _ in
            let etag = BrowserClient.etag
            let headers: HTTPFields = [
                .contentType: "text/javascript; charset=utf-8", .eTag: etag, .cacheControl: "no-cache",
                // A module may be imported from a page of another origin; it holds nothing secret.
                .accessControlAllowOrigin: "*",
            ]
            guard !BrowserClient.isCurrent(request.headers[.ifNoneMatch]) else {
                return Response(status: .notModified, headers: headers)
            }
            return Response(status: .ok, headers: headers, body: .init(byteBuffer: BrowserClient.module))
        }
        for path in ["", "socket"] {
            root.get(RouterPath(path)) { _, _ in
                // SocketShark's status for a plain request on its port (socketshark.md §2).
                var response = Response.text(
                    "This is a Holdfast gateway. Connect to it with a WebSocket.\n", status: .upgradeRequired
                )
                response.headers[.upgrade] = "websocket"
                return response
            }
        }
    }
}

/// The browser client, which the gateway serves from memory.
enum BrowserClient {
    static let module = ByteBuffer(bytes: PackageResources.holdfast_js)

    /// FNV-1a over the text: changes when the text does.
    static let etag: String = {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in PackageResources.holdfast_js { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return "\"\(String(hash, radix: 16))\""
    }()

    static func isCurrent(_ ifNoneMatch: String?) -> Bool {
        guard let ifNoneMatch else { return false }
        return ifNoneMatch == "*"
            || ifNoneMatch.split(separator: ",").contains { part in
                var tag = part.drop { $0 == " " }
                if tag.hasPrefix("W/") { tag = tag.dropFirst(2) }
                return tag == etag[...]
            }
    }
}
