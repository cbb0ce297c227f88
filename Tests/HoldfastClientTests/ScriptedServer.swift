import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// A WebSocket server that says what a test tells it to, and writes down what it hears.
final class ScriptedServer: Sendable {
    /// What a test lets it answer to a handshake, from the client's key.
    typealias Answer = @Sendable (_ key: String) -> ByteBuffer

    private let listener: any Channel
    private let peersBox: NIOLockedValueBox<[Peer]>

    /// One accepted connection.
    final class Peer: Sendable {
        let channel: any Channel
        fileprivate let box = NIOLockedValueBox(
            (messages: [WebSocketMessage](), error: WebSocketError?.none, hasEnded: false))

        fileprivate init(channel: any Channel) {
            self.channel = channel
        }

        var messages: [WebSocketMessage] { self.box.withLockedValue { $0.messages } }
        /// A rule of RFC 6455 that the client has broken.
        var error: WebSocketError? { self.box.withLockedValue { $0.error } }
        var hasEnded: Bool { self.box.withLockedValue { $0.hasEnded } }

        func send(_ frame: ByteBuffer) async throws {
            try await self.channel.writeAndFlush(frame)
        }

        func send(_ opcode: WebSocketOpcode, _ text: String) async throws {
            try await self.send(WebSocketFrame.unmasked(opcode, ByteBuffer(string: text)))
        }
    }

    static func accept(_ key: String) -> ByteBuffer {
        ByteBuffer(
            string: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Accept: \(WebSocketHandshake.accept(key: key))\r\n\r\n"
        )
    }

    private init(listener: any Channel, peers: NIOLockedValueBox<[Peer]>) {
        self.listener = listener
        self.peersBox = peers
    }

    var port: Int { self.listener.localAddress?.port ?? 0 }
    var peers: [Peer] { self.peersBox.withLockedValue { $0 } }

    static func start(_ answer: @escaping Answer = ScriptedServer.accept) async throws -> ScriptedServer {
        let peers = NIOLockedValueBox<[Peer]>([])
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let peer = Peer(channel: channel)
                    peers.withLockedValue { $0.append(peer) }
                    try channel.pipeline.syncOperations.addHandler(PeerHandler(peer, answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return ScriptedServer(listener: listener, peers: peers)
    }

    func stop() async {
        try? await self.listener.close()
        for peer in self.peers { try? await peer.channel.close() }
    }
}

private final class PeerHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let peer: ScriptedServer.Peer
    private let answer: ScriptedServer.Answer
    private var head = ""
    private var parser: WebSocketParser?

    init(_ peer: ScriptedServer.Peer, _ answer: @escaping ScriptedServer.Answer) {
        self.peer = peer
        self.answer = answer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        if self.parser == nil {
            // A client sends nothing behind its request before the answer.
            self.head += String(buffer: bytes)
            guard self.head.hasSuffix("\r\n\r\n") else { return }
            let name = "Sec-WebSocket-Key: "
            let key = self.head.split(separator: "\r\n").first { $0.hasPrefix(name) }?.dropFirst(name.count) ?? ""
            self.parser = WebSocketParser(role: .server)
            context.writeAndFlush(self.wrapOutboundOut(self.answer(String(key))), promise: nil)
            return
        }
        do throws(WebSocketError) {
            self.parser?.append(bytes)
            while let message = try self.parser?.next() {
                self.peer.box.withLockedValue { $0.messages.append(message) }
            }
        } catch {
            self.peer.box.withLockedValue { $0.error = error }
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.peer.box.withLockedValue { $0.hasEnded = true }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}

/// Waits for something that happens on another thread.
func eventually(
    _ what: String,
    within seconds: Double = 20,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: @Sendable () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
        if ContinuousClock.now > deadline {
            Issue.record("not within \(seconds) s: \(what)", sourceLocation: sourceLocation)
            throw TookTooLong()
        }
        try await Task.sleep(for: .milliseconds(1))
    }
}

struct TookTooLong: Error {}
