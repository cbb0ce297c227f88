import HoldfastCore
import HoldfastProtocol
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Stands in front of every connection: serves the session endpoints, hands other requests on to Hummingbird, one after the
/// other, and makes the connection a WebSocket when a request asks for it.
///
/// That request need not be the first. A proxy that keeps connections to the gateway open sends a handshake over one that
/// has served other requests (RFC 9110 §7.8 allows an upgrade on any request).
final class HTTPFront: LoopTimer, ChannelDuplexHandler, RemovableChannelHandler, ExchangeFront {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private enum Phase {
        /// Nothing has come yet, or all that came has been answered.
        case idle
        /// A request is with Hummingbird.
        case passing(hasEnded: Bool, isAnswered: Bool)
        /// A request to a session's endpoints.
        case serving(SessionExchange, hasEnded: Bool)
        /// A request for a WebSocket, until its end has come.
        case upgrading(HTTPRequestHead)
        /// A WebSocket has the connection, or an error was its last answer.
        case over
    }

    /// Hummingbird's part of the pipeline, from the first request for it on.
    private struct Installed {
        let codec: HTTP1ToHTTPServerCodec
        let state: HTTPConnectionStateHandler
    }

    private let shard: Shard
    private let logger: Logger
    private let isSecure: Bool
    /// Lets Hummingbird serve the connection.
    private let startHTTP: @Sendable (HTTP1Channel.Value) -> Void
    private var context: ChannelHandlerContext?
    private let encoder: HTTPResponseEncoder
    private let decoder: ByteToMessageHandler<HTTPRequestDecoder>
    private var phase = Phase.idle
    private var installed: Installed?
    /// What came behind a request that is not answered yet. Nothing more is read meanwhile, so it is what one read gave.
    private var held = CircularBuffer<HTTPServerRequestPart>()
    private var wantsToRead = false
    private var inputIsClosed = false
    private var deadlineAt: Instant

    private init(
        shard: Shard,
        logger: Logger,
        isSecure: Bool,
        startHTTP: @escaping @Sendable (HTTP1Channel.Value) -> Void,
        encoder: HTTPResponseEncoder,
        decoder: ByteToMessageHandler<HTTPRequestDecoder>
    ) {
        self.shard = shard
        self.logger = logger
        self.isSecure = isSecure
        self.startHTTP = startHTTP
        self.encoder = encoder
        self.decoder = decoder
        self.deadlineAt = shard.now + .seconds(shard.limits.handshakeTime)
    }

    /// Puts the HTTP codec and this handler into a new connection's pipeline.
    static func install(
        in pipeline: ChannelPipeline.SynchronousOperations,
        shard: Shard,
        logger: Logger,
        isSecure: Bool,
        startHTTP: @escaping @Sendable (HTTP1Channel.Value) -> Void
    ) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = 16 * 1024
        limits.maxHeaderListSize = 32 * 1024
        limits.maxHeaderFieldCount = 100
        // Bytes behind the handshake belong to the WebSocket: clients may send events in the same flight.
        let decoder = ByteToMessageHandler(
            HTTPRequestDecoder(
                leftOverBytesStrategy: .forwardBytes, informationalResponseStrategy: .drop, limitConfiguration: limits)
        )
        let encoder = HTTPResponseEncoder()
        try pipeline.addHandlers([encoder, decoder])
        try pipeline.addHandler(
            HTTPFront(
                shard: shard, logger: logger, isSecure: isSecure, startHTTP: startHTTP, encoder: encoder,
                decoder: decoder
            )
        )
    }

    /// Whether what comes now has to wait for an answer.
    private var mustHold: Bool {
        switch self.phase {
        case .passing(let hasEnded, _), .serving(_, let hasEnded): hasEnded
        case .idle, .upgrading, .over: false
        }
    }

    private func extendDeadline(_ seconds: Double) {
        self.deadlineAt = self.shard.now + .seconds(seconds)
        self.shard.setTimer(self)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        self.shard.setTimer(self)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.ended(reason: "connection closed")
        self.context = nil
        self.shard.setTimer(self)
    }

    private func ended(reason: String) {
        guard case .serving(let exchange, _) = self.phase else { return }
        self.phase = .over
        exchange.connectionEnded(reason: reason)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.ended(reason: "connection lost")
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = self.unwrapInboundIn(data)
        if self.mustHold {
            self.held.append(part)
        } else {
            self.take(part, context: context)
        }
    }

    private func take(_ part: HTTPServerRequestPart, context: ChannelHandlerContext) {
        switch (self.phase, part) {
        case (.over, _): break
        case (.idle, .head(let head)) where head.headers.contains(name: "upgrade") && head.asksForWebSocket:
            self.phase = .upgrading(head)
        case (.serving(let exchange, _), .body(var bytes)):
            self.extendDeadline(self.shard.limits.handshakeTime)
            exchange.append(&bytes)
        case (.serving(let exchange, _), .end):
            self.phase = .serving(exchange, hasEnded: true)
            exchange.serve()
        case (.idle, .head(let head)):
            if let path = self.sessionPath(of: head) {
                self.serve(head, path: path, context: context)
            } else {
                self.pass(head, context: context)
            }
        case (.upgrading, .body): self.refuse(.badRequest, "A WebSocket handshake has no body.")
        case (.upgrading(let head), .end): self.becomeWebSocket(context: context, head)
        case (.passing(_, let isAnswered), .end):
            self.phase = isAnswered ? .idle : .passing(hasEnded: true, isAnswered: false)
            self.extendDeadline(self.shard.limits.idleTime)
            context.fireChannelRead(self.wrapInboundOut(part))
        case (.passing, _):
            self.extendDeadline(self.shard.limits.handshakeTime)
            context.fireChannelRead(self.wrapInboundOut(part))
        // The decoder gives no part out of turn.
        case (.idle, _), (.upgrading, .head), (.serving, .head): context.close(promise: nil)
        }
    }

    /// What follows the prefix, if the request is for a session's endpoints.
    private func sessionPath(of head: HTTPRequestHead) -> Substring? {
        let prefix = self.shard.configuration.prefix
        guard head.uri.hasPrefix(prefix) else { return nil }
        let path = head.uri.dropFirst(prefix.utf8.count)
        return SessionExchange.serves(path) ? path : nil
    }

    private func serve(_ head: HTTPRequestHead, path: Substring, context: ChannelHandlerContext) {
        self.extendDeadline(self.shard.limits.handshakeTime)
        self.continueIfExpected(head, limit: self.shard.limits.messageBytes, context: context)
        let exchange = SessionExchange(
            head, path: path, shard: self.shard, remote: context.channel.remote, front: self)
        self.phase = .serving(exchange, hasEnded: false)
        exchange.expect(head.announcedLength)
    }

    private func pass(_ head: HTTPRequestHead, context: ChannelHandlerContext) {
        guard self.installHTTP(context: context) else { return }
        self.continueIfExpected(head, limit: self.shard.limits.requestBytes, context: context)
        self.phase = .passing(hasEnded: false, isAnswered: false)
        self.extendDeadline(self.shard.limits.handshakeTime)
        context.fireChannelRead(self.wrapInboundOut(.head(head)))
    }

    /// curl, for one, waits a second before it sends a large body that nobody said a word about (RFC 9110 §10.1.1). A body
    /// that is announced as too large gets its answer instead.
    private func continueIfExpected(_ head: HTTPRequestHead, limit: Int, context: ChannelHandlerContext) {
        guard head.version == .http1_1, head.headers["expect"].contains(where: { $0.lowercased() == "100-continue" })
        else { return }
        guard head.announcedLength <= limit else { return }
        let response = HTTPResponseHead(version: .http1_1, status: .continue)
        context.writeAndFlush(self.wrapOutboundOut(.head(response)), promise: nil)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        context.write(data, promise: promise)
        guard case .end = self.unwrapOutboundIn(data), case .passing(let hasEnded, _) = self.phase else { return }
        guard hasEnded else {
            self.phase = .passing(hasEnded: false, isAnswered: true)
            return
        }
        self.becomeIdle(context: context)
    }

    private func becomeIdle(context: ChannelHandlerContext) {
        self.phase = .idle
        self.extendDeadline(self.shard.limits.idleTime)
        self.release(context: context)
    }

    /// The request is answered: on with what came behind it.
    private func release(context: ChannelHandlerContext) {
        guard !self.held.isEmpty else { return }
        while let part = self.held.popFirst() {
            self.take(part, context: context)
            if self.mustHold { break }
        }
        context.fireChannelReadComplete()
        guard self.held.isEmpty else { return }
        if self.wantsToRead {
            self.wantsToRead = false
            context.read()
        }
        if self.inputIsClosed {
            self.inputIsClosed = false
            self.inputClosed(context: context)
        }
    }

    func read(context: ChannelHandlerContext) {
        if self.held.isEmpty {
            context.read()
        } else {
            self.wantsToRead = true
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if case .serving(let exchange, _) = self.phase { exchange.writabilityChanged(context.channel.isWritable) }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case .passing = self.phase { return context.fireErrorCaught(error) }
        if error is HTTPParserError, !self.mustHold {
            self.refuse(.badRequest, "This is not HTTP/1.1.")
        } else {
            context.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case ChannelEvent.inputClosed where !self.held.isEmpty: self.inputIsClosed = true
        case ChannelEvent.inputClosed: self.inputClosed(context: context)
        // The server's stop, and Hummingbird knows nothing of this connection.
        case is ChannelShouldQuiesceEvent where self.installed == nil: context.close(promise: nil)
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    /// The peer's FIN, behind all that it has said.
    private func inputClosed(context: ChannelHandlerContext) {
        switch self.phase {
        case .passing: context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        case .serving(let exchange, hasEnded: true) where exchange.inputClosed(): break
        case .idle, .serving, .upgrading, .over: context.close(promise: nil)
        }
    }

    // MARK: HTTP

    /// - Returns: `false` if the connection had to be closed.
    private func installHTTP(context: ChannelHandlerContext) -> Bool {
        guard self.installed == nil else { return true }
        do {
            let pipeline = context.pipeline.syncOperations
            let installed = Installed(
                codec: HTTP1ToHTTPServerCodec(secure: self.isSecure),
                // It sees a part of the requests only, so the time is watched here.
                state: HTTPConnectionStateHandler(logger: self.logger)
            )
            try pipeline.addHandlers([installed.codec, installed.state])
            let channel = try HTTP1Channel.Value(
                wrappingChannelSynchronously: context.channel,
                configuration: .init(isOutboundHalfClosureEnabled: true)
            )
            self.installed = installed
            self.startHTTP(channel)
            return true
        } catch {
            context.close(promise: nil)
            return false
        }
    }

    // MARK: WebSocket (RFC 6455 §4.2)

    private func becomeWebSocket(context: ChannelHandlerContext, _ head: HTTPRequestHead) {
        guard head.method == .GET, head.version.major == 1, head.version.minor >= 1, head.headers.contains(name: "host")
        else {
            return self.refuse(.badRequest, "A WebSocket handshake is a GET request of HTTP/1.1 with a Host header.")
        }
        guard head.headers["connection"].contains(where: { $0.containsToken("upgrade") }) else {
            return self.refuse(.badRequest, "Connection: Upgrade is missing; a proxy may have taken it away.")
        }
        guard head.headers["sec-websocket-version"].map(\.trimmed) == ["13"] else {
            return self.refuse(
                .upgradeRequired, "This gateway speaks WebSocket version 13.", [("Sec-WebSocket-Version", "13")])
        }
        guard head.headers["sec-websocket-key"].count == 1,
            let key = head.headers.first(name: "sec-websocket-key")?.trimmed, WebSocketHandshake.isValid(key: key)
        else { return self.refuse(.badRequest, "Sec-WebSocket-Key must be 16 bytes in base64.") }
        if let refusal = self.shard.gateway.webSocketRefusal {
            return self.refuse(.serviceUnavailable, refusal.text, [refusal.retry])
        }
        self.accept(context: context, key: key)
    }

    private func accept(context: ChannelHandlerContext, key: String) {
        self.phase = .over
        let headers: HTTPHeaders = [
            "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Accept": WebSocketHandshake.accept(key: key),
        ]
        let response = HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers)
        let pipeline = context.pipeline.syncOperations
        let channel = context.channel
        do {
            // In front of Hummingbird's handlers, if they are there. The last of them cannot be removed: it waits for a
            // request that does not come, and its task ends with the connection.
            try pipeline.addHandler(
                WebSocketHandler(WebSocketTransport(shard: self.shard, remote: channel.remote)), position: .after(self)
            )
        } catch {
            return context.close(promise: nil)
        }
        self.limitSilence(of: channel)
        // Now that it is counted: whoever reads this may ask at once for one more than there may be.
        context.writeAndFlush(self.wrapOutboundOut(.head(response)), promise: nil)
        if let installed = self.installed {
            pipeline.removeHandler(installed.codec, promise: nil)
            pipeline.removeHandler(installed.state, promise: nil)
        }
        // Last, the decoder hands what it has not read to the next handler, which then is the transport.
        pipeline.removeHandler(self.encoder, promise: nil)
        pipeline.removeHandler(context: context, promise: nil)
        pipeline.removeHandler(self.decoder, promise: nil)
    }

    /// Answers with an error and closes. Says what was wrong, since proxies are often the cause.
    private func refuse(_ status: HTTPResponseStatus, _ reason: String, _ more: [(String, String)] = []) {
        guard let context = self.context else { return }
        let body = ByteBuffer(string: reason + "\n")
        var headers = HTTPHeaders(more)
        headers.add(name: "Content-Type", value: "text/plain; charset=utf-8")
        headers.add(name: "Content-Length", value: String(body.readableBytes))
        headers.add(name: "Connection", value: "close")
        let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
        context.write(self.wrapOutboundOut(.head(head)), promise: nil)
        context.write(self.wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        self.endAndClose(context)
    }

    /// The answer was the connection's last.
    private func endAndClose(_ context: ChannelHandlerContext) {
        self.phase = .over
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(self.wrapOutboundOut(.end(nil))).whenComplete { _ in bound.value.close(promise: nil) }
    }

    // MARK: Answers of the session endpoints

    func answer(_ head: HTTPResponseHead, _ body: [ByteBuffer], isKeepAlive: Bool) {
        guard let context = self.context else { return }
        context.write(self.wrapOutboundOut(.head(head)), promise: nil)
        for piece in body where piece.readableBytes > 0 {
            context.write(self.wrapOutboundOut(.body(.byteBuffer(piece))), promise: nil)
        }
        self.finish(context, isKeepAlive: isKeepAlive)
    }

    func beginStream(_ head: HTTPResponseHead, _ first: ByteBuffer) {
        guard let context = self.context else { return }
        // A stream is heard of no more once it has begun.
        self.limitSilence(of: context.channel)
        context.write(self.wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(self.wrapOutboundOut(.body(.byteBuffer(first))), promise: nil)
    }

    /// What is not acknowledged for long goes nowhere. Shorter than what a Ping may take, for it begins later: a client that
    /// can be heard and does not hear is heard until it gives up, and a stream has something to say only now and then.
    private func limitSilence(of channel: any Channel) {
        #if os(Linux)
        let ping = self.shard.configuration.ping
        // Without Pings nobody is let go for being silent, by wish of whoever runs the gateway.
        guard ping.interval > 0 else { return }
        let patience = Int((ping.interval + ping.timeout) * 1000 * 5 / 6)
        let option = ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: TCP_USER_TIMEOUT))
        channel.setOption(option, value: patience).whenFailure { _ in }
        #endif
    }

    func writeStream(_ bytes: ByteBuffer) {
        self.context?.writeAndFlush(self.wrapOutboundOut(.body(.byteBuffer(bytes))), promise: nil)
    }

    func endStream(_ last: ByteBuffer?, isKeepAlive: Bool) {
        guard let context = self.context else { return }
        if let last { context.write(self.wrapOutboundOut(.body(.byteBuffer(last))), promise: nil) }
        self.finish(context, isKeepAlive: isKeepAlive)
    }

    private func finish(_ context: ChannelHandlerContext, isKeepAlive: Bool) {
        guard case .serving(_, let hasEnded) = self.phase else { return }
        guard isKeepAlive, hasEnded else { return self.endAndClose(context) }
        context.writeAndFlush(self.wrapOutboundOut(.end(nil)), promise: nil)
        self.becomeIdle(context: context)
    }

    // MARK: Time

    override var deadline: Instant? {
        switch self.phase {
        case .over: nil
        // Somebody else knows how long the answer may take.
        case .passing(hasEnded: true, _), .serving(_, hasEnded: true): nil
        case .idle, .passing, .serving, .upgrading: self.context == nil ? nil : self.deadlineAt
        }
    }

    override func timerFired(now: Instant) {
        // The wheel may have looked before a deadline that has moved.
        if now >= self.deadlineAt { self.context?.close(promise: nil) }
    }
}

extension Channel {
    /// Address of the peer, for people.
    fileprivate var remote: String {
        self.remoteAddress.map { "\($0.ipAddress ?? "unix"):\($0.port ?? 0)" } ?? "unknown"
    }
}

extension HTTPRequestHead {
    /// `Content-Length`; 0 if there is none.
    fileprivate var announcedLength: Int { self.headers.first(name: "content-length").flatMap { Int($0) } ?? 0 }

    fileprivate var asksForWebSocket: Bool { self.headers["upgrade"].contains { $0.containsToken("websocket") } }
}

extension String {
    /// Without the blanks that may stand around a header's value (RFC 9110 §5.5).
    fileprivate var trimmed: String {
        var text = self[...]
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return String(text)
    }

    /// Whether a header's comma-separated list has the word, in any case.
    fileprivate func containsToken(_ token: String) -> Bool {
        self.split(separator: ",").contains { part in
            part.drop { $0 == " " || $0 == "\t" }.lowercased().prefix {
                $0 != " " && $0 != "\t" && $0 != ";" && $0 != "/"
            }
                == token[...]
        }
    }
}
