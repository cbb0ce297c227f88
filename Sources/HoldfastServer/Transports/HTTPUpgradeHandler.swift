import HoldfastCore
import HoldfastProtocol
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1

/// Looks at the first request of a connection and makes it a WebSocket or an HTTP connection.
final class HTTPUpgradeHandler: LoopTimer, ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let shard: Shard
    private let logger: Logger
    private let isSecure: Bool
    private var promise: EventLoopPromise<HTTP1Channel.Value?>?
    private var context: ChannelHandlerContext?
    private let encoder: HTTPResponseEncoder
    private let decoder: ByteToMessageHandler<HTTPRequestDecoder>
    /// The request that asked for an upgrade, until its end has come.
    private var upgrade: HTTPRequestHead?
    private let deadlineAt: Instant

    private init(
        shard: Shard,
        logger: Logger,
        isSecure: Bool,
        promise: EventLoopPromise<HTTP1Channel.Value?>,
        encoder: HTTPResponseEncoder,
        decoder: ByteToMessageHandler<HTTPRequestDecoder>
    ) {
        self.shard = shard
        self.logger = logger
        self.isSecure = isSecure
        self.promise = promise
        self.encoder = encoder
        self.decoder = decoder
        self.deadlineAt = .now + .seconds(shard.limits.handshakeTime)
    }

    /// Puts the HTTP codec and this handler into a new connection's pipeline.
    static func install(
        in pipeline: ChannelPipeline.SynchronousOperations,
        shard: Shard,
        logger: Logger,
        isSecure: Bool,
        promise: EventLoopPromise<HTTP1Channel.Value?>
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
            HTTPUpgradeHandler(
                shard: shard, logger: logger, isSecure: isSecure, promise: promise, encoder: encoder, decoder: decoder
            )
        )
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        self.shard.setTimer(self)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        self.shard.setTimer(self)
        self.promise?.fail(ChannelError.eof)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.promise?.fail(ChannelError.eof)
        self.promise = nil
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard self.promise != nil else { return }
        switch self.unwrapInboundIn(data) {
        case .head(let head) where head.headers.contains(name: "upgrade") && head.asksForWebSocket:
            self.upgrade = head
        case .head:
            self.becomeHTTP(context: context, first: data)
        case .body:
            self.refuse(.badRequest, "A WebSocket handshake has no body.")
        case .end:
            guard let head = self.upgrade else { return }
            self.upgrade = nil
            self.becomeWebSocket(context: context, head)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is HTTPParserError {
            self.refuse(.badRequest, "This is not HTTP/1.1.")
        } else {
            context.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        // The peer's FIN, or the server's stop: no request came.
        case ChannelEvent.inputClosed, is ChannelShouldQuiesceEvent: context.close(promise: nil)
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    // MARK: HTTP

    private func becomeHTTP(context: ChannelHandlerContext, first: NIOAny) {
        guard let promise = self.promise else { return }
        self.promise = nil
        do {
            let pipeline = context.pipeline.syncOperations
            try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: self.isSecure))
            try pipeline.addHandler(
                HTTPConnectionStateHandler(
                    idleTimeout: .seconds(self.shard.limits.handshakeTime),
                    logger: self.logger
                )
            )
            let channel = try HTTP1Channel.Value(
                wrappingChannelSynchronously: context.channel,
                configuration: .init(isOutboundHalfClosureEnabled: true)
            )
            promise.succeed(channel)
            context.fireChannelRead(first)
            pipeline.removeHandler(context: context, promise: nil)
        } catch {
            promise.fail(error)
            context.close(promise: nil)
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
        let gateway = self.shard.gateway
        guard !gateway.isDraining else {
            return self.refuse(.serviceUnavailable, "This gateway is being stopped.", [("Retry-After", "1")])
        }
        let limit = gateway.configuration.limits.webSockets
        guard gateway.registry.transportCount < limit else {
            return self.refuse(
                .serviceUnavailable,
                "The limit of \(limit) WebSockets is reached (a tenth above limits.sessions).",
                [("Retry-After", String(Int(gateway.spread.rounded(.up))))]
            )
        }
        self.accept(context: context, key: key)
    }

    private func accept(context: ChannelHandlerContext, key: String) {
        guard let promise = self.promise else { return }
        self.promise = nil
        let headers: HTTPHeaders = [
            "Upgrade": "websocket", "Connection": "Upgrade",
            "Sec-WebSocket-Accept": WebSocketHandshake.accept(key: key),
        ]
        let response = HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers)
        context.writeAndFlush(self.wrapOutboundOut(.head(response)), promise: nil)
        let pipeline = context.pipeline.syncOperations
        let channel = context.channel
        do {
            let remote = channel.remoteAddress.map { "\($0.ipAddress ?? "unix"):\($0.port ?? 0)" } ?? "unknown"
            // Events are small and must not wait for each other (RFC 896 would hold them back).
            channel.setOption(.tcpOption(.tcp_nodelay), value: 1).whenFailure { _ in }
            try pipeline.addHandler(WebSocketTransport(shard: self.shard, remote: remote))
        } catch {
            promise.fail(error)
            return context.close(promise: nil)
        }
        // Last, the decoder hands what it has not read to the next handler, which then is the transport.
        pipeline.removeHandler(self.encoder, promise: nil)
        pipeline.removeHandler(context: context, promise: nil)
        pipeline.removeHandler(self.decoder, promise: nil)
        promise.succeed(nil)
    }

    /// Answers with an error and closes. Says what was wrong, since proxies are often the cause.
    private func refuse(_ status: HTTPResponseStatus, _ reason: String, _ more: [(String, String)] = []) {
        guard let context = self.context else { return }
        self.promise?.fail(ChannelError.eof)
        self.promise = nil
        let body = ByteBuffer(string: reason + "\n")
        var headers = HTTPHeaders(more)
        headers.add(name: "Content-Type", value: "text/plain; charset=utf-8")
        headers.add(name: "Content-Length", value: String(body.readableBytes))
        headers.add(name: "Connection", value: "close")
        context.write(
            self.wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers))),
            promise: nil
        )
        context.write(self.wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(self.wrapOutboundOut(.end(nil))).whenComplete { _ in bound.value.close(promise: nil) }
    }

    // MARK: Time

    override var deadline: Instant? { self.context == nil ? nil : self.deadlineAt }

    override func timerFired(now: Instant) {
        self.context?.close(promise: nil)
    }
}

extension HTTPRequestHead {
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
