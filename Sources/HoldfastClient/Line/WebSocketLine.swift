import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOPosix
import NIOSSL

/// One WebSocket to a gateway, from the connect to the end. Belongs to the owner's event loop.
final class WebSocketLine: ClientLine, ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        case connecting
        /// The proxy was asked for a way to the gateway.
        case tunnel(HandshakeResponseParser)
        case handshake(ClientHandshake, HandshakeResponseParser)
        case open
        case ended
    }

    let id: Int
    private weak var owner: (any LineOwner)?
    private var url: GatewayURL?
    private var tls: NIOSSLContext?
    private var state = State.connecting
    private var parser: WebSocketParser
    private var context: ChannelHandlerContext?
    /// The answer to a Ping that came while nothing could be written. Only the last one counts (RFC 6455 §5.5.3), so that a
    /// peer that asks and does not read cannot fill our memory.
    private var waitingPong: ByteBuffer?
    private var random = SystemRandomNumberGenerator()

    init(id: Int, messageBytes: Int, owner: any LineOwner) {
        self.id = id
        self.owner = owner
        self.parser = WebSocketParser(role: .client, maxFrameBytes: messageBytes, maxMessageBytes: messageBytes)
    }

    func connect(
        to url: GatewayURL,
        through proxy: HTTPProxy?,
        tls: NIOSSLContext?,
        on loop: any EventLoop,
        timeout: TimeAmount
    ) {
        self.url = url
        self.tls = tls
        ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            // Events are small and must not wait for each other.
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connect(host: proxy?.host ?? url.host, port: proxy?.port ?? url.port)
            .assumeIsolated()
            .whenComplete { result in
                switch result {
                case .success(let channel): self.connected(channel, url, proxy)
                case .failure(let error):
                    self.end(LineEnd(.abnormal, proxy == nil ? describe(error) : "the proxy: \(describe(error))"))
                }
            }
    }

    private func connected(_ channel: any Channel, _ url: GatewayURL, _ proxy: HTTPProxy?) {
        guard case .connecting = self.state else {
            // Let go meanwhile.
            return channel.close(promise: nil)
        }
        do {
            try channel.pipeline.syncOperations.addHandler(self)
            guard let proxy else { return try self.greet(channel, url) }
            guard self.tls == nil || !url.isAddress else {
                self.end(LineEnd(.abnormal, "through a proxy, an encrypted gateway needs a host name, not \(url.host)"))
                return channel.close(promise: nil)
            }
            self.state = .tunnel(HandshakeResponseParser())
            channel.writeAndFlush(ByteBuffer(string: proxy.request(for: url)), promise: nil)
        } catch {
            self.fail(error, channel)
        }
    }

    /// The way to the gateway is open.
    private func greet(_ channel: any Channel, _ url: GatewayURL) throws {
        if let tls = self.tls {
            // An address has no name that could stand in SNI (RFC 6066 §3).
            let handler = try NIOSSLClientHandler(context: tls, serverHostname: url.isAddress ? nil : url.host)
            try channel.pipeline.syncOperations.addHandler(handler, position: .before(self))
        }
        let handshake = ClientHandshake(url, using: &self.random)
        self.state = .handshake(handshake, HandshakeResponseParser())
        channel.writeAndFlush(handshake.request, promise: nil)
    }

    private func fail(_ error: any Error, _ channel: any Channel) {
        self.end(LineEnd(.abnormal, describe(error)))
        channel.close(promise: nil)
    }

    // MARK: For the owner

    func send(_ text: ByteBuffer, number: UInt64?) {
        guard case .open = self.state else { return }
        self.write(.text, text)
    }

    func flush() {
        self.context?.flush()
    }

    /// A WebSocket listens by itself.
    func listen(_ transport: ClientTransport, received: UInt64, wait: Span?) {}

    func setReading(_ isReading: Bool) {
        self.context?.channel.setOption(.autoRead, value: isReading).whenFailure { _ in }
    }

    func letGo(code: CloseCode?) {
        let wasOpen = if case .open = self.state { true } else { false }
        self.state = .ended
        self.owner = nil
        guard let context = self.context else { return }
        if wasOpen {
            self.write(.close, code.map { WebSocketFrame.closePayload($0, reason: "") } ?? ByteBuffer())
            context.flush()
        }
        context.close(promise: nil)
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        switch self.state {
        case .connecting, .ended: return
        case .tunnel(var response):
            response.append(bytes)
            self.readTunnel(response, context.channel)
        case .handshake(let handshake, var response):
            response.append(bytes)
            self.readHandshake(handshake, response)
        case .open:
            self.parser.append(bytes)
            self.readMessages()
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.end(
            LineEnd(
                .abnormal,
                self.isOpen ? "the connection was lost" : "the connection was closed before it was a WebSocket"))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.end(LineEnd(.abnormal, describe(error)))
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        guard context.channel.isWritable, let pong = self.waitingPong else { return }
        self.waitingPong = nil
        self.write(.pong, pong)
        context.flush()
    }

    private var isOpen: Bool { if case .open = self.state { true } else { false } }

    private func write(_ opcode: WebSocketOpcode, _ payload: ByteBuffer) {
        guard let context = self.context else { return }
        context.write(
            self.wrapOutboundOut(WebSocketFrame.masked(opcode, payload, mask: self.random.next())), promise: nil)
    }

    /// The line carries nothing any more.
    private func end(_ end: LineEnd) {
        if case .ended = self.state { return }
        self.state = .ended
        let owner = self.owner
        self.owner = nil
        owner?.ended(self, end)
        self.context?.close(promise: nil)
    }

    // MARK: Reading

    private func readTunnel(_ response: HandshakeResponseParser, _ channel: any Channel) {
        var response = response
        do {
            guard let answer = try response.next() else {
                self.state = .tunnel(response)
                return
            }
            guard (200..<300).contains(answer.status), let url = self.url else {
                return self.end(LineEnd(.abnormal, "the proxy answered \(answer.status) \(answer.phrase)"))
            }
            try self.greet(channel, url)
        } catch let error as HandshakeError {
            self.end(LineEnd(.abnormal, "the proxy: \(error.reason)"))
        } catch {
            self.fail(error, channel)
        }
    }

    private func readHandshake(_ handshake: ClientHandshake, _ response: HandshakeResponseParser) {
        var response = response
        do throws(HandshakeError) {
            guard let answer = try response.next() else {
                self.state = .handshake(handshake, response)
                return
            }
            try handshake.check(answer)
            self.state = .open
            // Frames may come in the same flight.
            self.parser.append(response.rest)
            self.owner?.opened(self)
            self.readMessages()
        } catch {
            self.end(LineEnd(.abnormal, error.reason, retryAfter: error.retryAfter))
        }
    }

    func readMessages() {
        do throws(WebSocketError) {
            while self.isOpen, self.owner?.isPaused == false, let message = try self.parser.next() {
                self.receive(message)
            }
        } catch {
            self.write(.close, WebSocketFrame.closePayload(error.code, reason: error.reason))
            self.context?.flush()
            // For the machine it is the peer that broke the protocol, whatever the rule was.
            self.end(LineEnd(.protocolError, "the gateway sent \(error.reason)", closeReason: error.reason))
        }
    }

    private func receive(_ message: WebSocketMessage) {
        switch message {
        case .text(let text): self.owner?.received(self, text.compact)
        // The protocol is text; what this was meant to be, nobody can say.
        case .binary: self.owner?.received(self, ByteBuffer())
        case .ping(let payload):
            guard self.context?.channel.isWritable == true else {
                self.waitingPong = payload
                return
            }
            self.write(.pong, payload)
            self.context?.flush()
        case .pong: break
        case .close(let code, let reason):
            self.write(.close, code.map { WebSocketFrame.closePayload($0, reason: "") } ?? ByteBuffer())
            self.context?.flush()
            self.end(LineEnd(word: code, reason: reason))
        }
    }
}

extension ByteBuffer {
    /// The same bytes, in memory of their own if they would keep alive much more than themselves.
    fileprivate var compact: ByteBuffer {
        self.storageCapacity > 2 * self.readableBytes ? ByteBuffer(bytes: self.readableBytesView) : self
    }
}

extension GatewayURL {
    fileprivate var isAddress: Bool { (try? SocketAddress(ipAddress: self.host, port: self.port)) != nil }
}

extension HTTPProxy {
    /// Asks for a way to the gateway.
    fileprivate func request(for url: GatewayURL) -> String {
        let login = self.login.map { "Proxy-Authorization: \($0.header)\r\n" } ?? ""
        return "CONNECT \(url.authority) HTTP/1.1\r\nHost: \(url.authority)\r\n\(login)\r\n"
    }
}
