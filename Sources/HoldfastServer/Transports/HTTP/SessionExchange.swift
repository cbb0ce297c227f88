import HoldfastProtocol
import NIOCore
import NIOHTTP1

/// The connection that a request came over, as far as an answer goes. Belongs to one event loop.
package protocol ExchangeFront: AnyObject {
    func answer(_ head: HTTPResponseHead, _ body: [ByteBuffer], isKeepAlive: Bool)

    /// Begins an answer whose length is not known.
    func beginStream(_ head: HTTPResponseHead, _ first: ByteBuffer)
    func writeStream(_ bytes: ByteBuffer)
    func endStream(_ last: ByteBuffer?, isKeepAlive: Bool)
}

/// One request to a session's endpoints and the connection that waits for the answer. Belongs to the connection's loop.
///
/// Keeps of the request only what the answer needs: a poll may be outstanding for long, on a hundred thousand connections.
final class SessionExchange {
    /// Of the loop that the connection is on; the session may be on another.
    let shard: Shard
    let remote: String
    let path: Substring
    let query: Substring
    let method: HTTPMethod
    /// `Authorization: Holdfast SECRET`
    let secret: SessionName.Secret?
    /// Of a CORS preflight: `Access-Control-Request-Headers`.
    let wantedHeaders: String?
    private(set) var body = ByteBuffer()
    private let version: HTTPVersion
    private var isKeepAlive: Bool
    /// It waits for events, perhaps for long.
    var isListening = false
    private let cors: [(String, String)]
    /// `nil` once the request is answered or the connection gone.
    private weak var front: (any ExchangeFront)?
    /// The event stream that is the answer.
    private var stream: StreamTransport?
    /// Called when the connection ends before the answer.
    var onGone: (() -> Void)?

    init(_ head: HTTPRequestHead, path: Substring, shard: Shard, remote: String, front: any ExchangeFront) {
        self.shard = shard
        self.remote = remote
        self.path = path.prefix { $0 != "?" }
        self.query = path.dropFirst(self.path.utf16.count).dropFirst()
        self.method = head.method
        self.version = head.version
        self.isKeepAlive = head.isKeepAlive
        let authorization = head.headers.first(name: "authorization")?.split(separator: " ") ?? []
        let isOurs = authorization.count == 2 && authorization[0].lowercased() == "holdfast"
        self.secret = isOurs ? SessionName.Secret(authorization[1]) : nil
        self.cors = shard.configuration.cors.headers(for: head.headers.first(name: "origin"))
        self.wantedHeaders =
            head.method == .OPTIONS ? head.headers.first(name: "access-control-request-headers") : nil
        self.front = front
    }

    var isGone: Bool { self.front == nil }
    var isAllowedOrigin: Bool { !self.cors.isEmpty }

    /// Refuses a body that is too large, if need be before it comes.
    /// - Parameter announced: `Content-Length`.
    func expect(_ announced: Int) { _ = self.hasRoom(for: announced) }

    func append(_ bytes: inout ByteBuffer) {
        if self.hasRoom(for: self.body.readableBytes + bytes.readableBytes) { self.body.writeBuffer(&bytes) }
    }

    private func hasRoom(for actual: Int) -> Bool {
        let limit = self.shard.limits.messageBytes
        if actual <= limit { return true }
        self.refuse(.payloadTooLarge, .limitExceeded("The request's length in bytes", limit: limit, actual: actual))
        return false
    }

    /// The body has been read and is needed no more.
    func takeBody() -> ByteBuffer {
        defer { self.body = ByteBuffer() }
        return self.body
    }

    // MARK: Answers

    /// - Parameter pieces: of the body, in order.
    func answer(_ status: HTTPResponseStatus, _ pieces: [ByteBuffer], _ more: [(String, String)] = []) {
        guard let front = self.front else { return }
        self.front = nil
        var headers = self.headers(type: "application/json", more)
        headers.add(name: "Content-Length", value: String(pieces.reduce(0) { $0 + $1.readableBytes }))
        // What is left of a body that is too large is not read.
        let isKeepAlive = self.isKeepAlive && status != .payloadTooLarge
        if !isKeepAlive { headers.add(name: "Connection", value: "close") }
        front.answer(
            HTTPResponseHead(version: self.version, status: status, headers: headers),
            pieces,
            isKeepAlive: isKeepAlive
        )
    }

    func answer(_ status: HTTPResponseStatus, _ json: ByteBuffer) { self.answer(status, [json]) }

    /// `{"status":"error","error":"...","code":"..."}`
    func refuse(_ status: HTTPResponseStatus, _ error: ProtocolError, _ more: [(String, String)] = []) {
        self.answer(status, [JSONWriter.object { $0.error(error, dialect: .native) }], more)
    }

    /// Unknown, expired, or not yours: the three look the same.
    func refuseUnknownSession() {
        self.answer(
            .notFound,
            ServerEvent.reply(ServerEvent.Reply(event: "hello", error: .unknownSession), dialect: .native)
        )
    }

    /// A CORS preflight.
    func answerPreflight(_ methods: String) {
        guard self.isAllowedOrigin else {
            return self.refuse(
                .forbidden, ProtocolError("This origin is not among cors.origins.", code: "forbidden_origin"))
        }
        var more = [("Access-Control-Allow-Methods", methods), ("Access-Control-Max-Age", "7200")]
        if let wanted = self.wantedHeaders { more.append(("Access-Control-Allow-Headers", wanted)) }
        self.answer(.noContent, [], more)
    }

    private func headers(type: String, _ more: [(String, String)]) -> HTTPHeaders {
        var headers: HTTPHeaders = [
            "Content-Type": type,
            // Neither kept nor compressed nor held back by anything in between; nginx needs the word of its own.
            "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
        ]
        headers.add(contentsOf: self.cors)
        headers.add(contentsOf: more)
        return headers
    }

    // MARK: Event stream

    func begin(_ stream: StreamTransport, _ first: ByteBuffer) {
        self.stream = stream
        // Only its end tells a client of HTTP/1.0 where an answer ends whose length is not known.
        if self.version.minor == 0 { self.isKeepAlive = false }
        var headers = self.headers(type: "text/event-stream", [])
        if !self.isKeepAlive { headers.add(name: "Connection", value: "close") }
        self.front?.beginStream(HTTPResponseHead(version: self.version, status: .ok, headers: headers), first)
    }

    func write(_ bytes: ByteBuffer) { self.front?.writeStream(bytes) }

    func end(_ last: ByteBuffer?) {
        self.stream = nil
        guard let front = self.front else { return }
        self.front = nil
        front.endStream(last, isKeepAlive: self.isKeepAlive)
    }

    // MARK: The connection

    /// The client has said all that it will. One that waits for events does not close its direction before it gives up.
    /// - Returns: whether it still is to be answered.
    func inputClosed() -> Bool {
        self.isKeepAlive = false
        return !self.isListening
    }

    func writabilityChanged(_ isWritable: Bool) { self.stream?.writabilityChanged(isWritable) }

    func connectionEnded(reason: String) {
        self.front = nil
        self.stream?.connectionEnded(reason: reason)
        self.stream = nil
        self.onGone?()
        self.onGone = nil
    }
}

/// An exchange as other loops see it.
struct SharedExchange: Sendable {
    private let bound: NIOLoopBound<SessionExchange>
    private let loop: any EventLoop

    /// To be called on the exchange's own loop.
    init(_ exchange: SessionExchange) {
        self.loop = exchange.shard.loop
        self.bound = NIOLoopBound(exchange, eventLoop: self.loop)
    }

    /// Runs `body` on the exchange's loop, at once if this is it.
    func on(_ body: @escaping @Sendable (SessionExchange) -> Void) {
        if self.loop.inEventLoop { return body(self.bound.value) }
        self.loop.execute { [bound = self.bound] in body(bound.value) }
    }
}
