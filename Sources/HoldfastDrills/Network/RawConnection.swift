import HoldfastProtocol
import NIOCore
import NIOPosix
import Synchronization

/// A connection that may say anything, also what no client would.
final class RawConnection: Sendable {
    /// Of what is kept of the server's words, in bytes.
    private static let limit = 1 << 20

    private struct State {
        var received = ByteBuffer()
        var isClosed = false
    }

    private let channel: any Channel
    private let state: Keeper

    private final class Keeper: Sendable {
        let value = Mutex(State())
    }

    static func open(port: Int) async throws -> RawConnection {
        let keeper = Keeper()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(.seconds(5))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Reader(keeper))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return RawConnection(channel, keeper)
    }

    private init(_ channel: any Channel, _ state: Keeper) {
        self.channel = channel
        self.state = state
    }

    private final class Reader: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let keeper: Keeper

        init(_ keeper: Keeper) {
            self.keeper = keeper
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = self.unwrapInboundIn(data)
            self.keeper.value.withLock { state in
                guard state.received.readableBytes < RawConnection.limit else { return }
                state.received.writeImmutableBuffer(bytes)
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.keeper.value.withLock { $0.isClosed = true }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }
    }

    /// All that has come so far.
    var received: ByteBuffer { self.state.value.withLock { $0.received } }
    var isClosed: Bool { self.state.value.withLock { $0.isClosed } }

    /// - Returns: false if the connection is gone.
    @discardableResult
    func send(_ bytes: ByteBuffer) async -> Bool {
        (try? await self.channel.writeAndFlush(bytes).get()) != nil
    }

    func close() async {
        // The server may have closed it first.
        try? await self.channel.close()
    }

    /// Waits until what has come satisfies, or until the connection is closed.
    /// - Returns: false after the deadline.
    func wait(seconds: Double, for condition: @escaping @Sendable (ByteBuffer) -> Bool) async throws -> Bool {
        let done = try await HoldfastDrills.wait(DrillClock(), until: seconds) { () -> Bool? in
            if condition(self.received) { return true }
            return self.isClosed ? condition(self.received) : nil
        }
        return done ?? false
    }

    // MARK: WebSockets

    private static func handshake(port: Int) -> ByteBuffer {
        var random = SystemRandomNumberGenerator()
        let key = WebSocketHandshake.key(high: random.next(), low: random.next())
        return ByteBuffer(
            string: "GET /socket HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Key: \(key)\r\nSec-WebSocket-Version: 13\r\n\r\n")
    }

    /// With the handshake behind it.
    static func webSocket(port: Int) async throws -> RawConnection {
        let connection = try await Self.open(port: port)
        await connection.send(Self.handshake(port: port))
        let isOpen = try await connection.wait(seconds: 10) { String(buffer: $0).contains("\r\n\r\n") }
        guard isOpen, String(buffer: connection.received).hasPrefix("HTTP/1.1 101") else {
            await connection.close()
            throw DrillError("no WebSocket was given: \(String(buffer: connection.received).prefix(80))")
        }
        return connection
    }

    static func text(_ text: String) -> ByteBuffer {
        WebSocketFrame.masked(.text, ByteBuffer(string: text), mask: UInt32.random(in: 1...UInt32.max))
    }
}
