import HoldfastFaults
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// What one end of a connection has heard from the other.
struct Heard: Sendable, Equatable {
    var bytes = ByteBuffer()
    var end: End?

    enum End: Sendable, Equatable {
        case finish
        case reset
    }

    var text: String { String(buffer: self.bytes) }
    static let nothing = Heard()
}

/// One end of a TCP connection that says what a test tells it to and writes down what it hears.
final class TestSocket: Sendable {
    let channel: any Channel
    private let heardBox: NIOLockedValueBox<Heard>

    init(channel: any Channel, heard: NIOLockedValueBox<Heard>) {
        self.channel = channel
        self.heardBox = heard
    }

    var heard: Heard { self.heardBox.withLockedValue { $0 } }

    static func connect(to port: Int, autoRead: Bool = true) async throws -> TestSocket {
        let heard = NIOLockedValueBox(Heard())
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.autoRead, value: autoRead)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(HearingHandler(heard))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return TestSocket(channel: channel, heard: heard)
    }

    func send(_ text: String) async throws {
        try await self.channel.writeAndFlush(ByteBuffer(string: text))
    }

    /// FIN.
    func finish() async throws {
        try await self.channel.close(mode: .output)
    }

    /// RST.
    func reset() async throws {
        struct Linger {
            var isOn: CInt = 1
            var time: CInt = 0
        }
        let options = try #require(self.channel as? any SocketOptionProvider)
        try await options.unsafeSetSocketOption(level: .socket, name: .so_linger, value: Linger()).get()
        try await self.channel.close()
    }

    /// The socket, without a word about how.
    func close() async {
        try? await self.channel.close()
    }
}

private final class HearingHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let heard: NIOLockedValueBox<Heard>
    private var error: (any Error)?

    init(_ heard: NIOLockedValueBox<Heard>) {
        self.heard = heard
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = self.unwrapInboundIn(data)
        self.heard.withLockedValue { _ = $0.bytes.writeBuffer(&bytes) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent {
            self.heard.withLockedValue { $0.end = .finish }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.error = error
    }

    func channelInactive(context: ChannelHandlerContext) {
        // After a FIN of our own NIO closes at the other's without telling of it first; only a RST is an error.
        self.heard.withLockedValue {
            if self.error != nil {
                $0.end = .reset
            } else if $0.end == nil {
                $0.end = .finish
            }
        }
    }
}

/// A server that does nothing of itself: the test has the other end of each connection in its hands.
final class TestServer: Sendable {
    let channel: any Channel
    private let sockets: NIOLockedValueBox<[TestSocket]>

    var port: Int { self.channel.localAddress!.port! }
    var accepted: [TestSocket] { self.sockets.withLockedValue { $0 } }

    private init(channel: any Channel, sockets: NIOLockedValueBox<[TestSocket]>) {
        self.channel = channel
        self.sockets = sockets
    }

    static func start(port: Int = 0, autoRead: Bool = true) async throws -> TestServer {
        let sockets = NIOLockedValueBox<[TestSocket]>([])
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.autoRead, value: autoRead)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let heard = NIOLockedValueBox(Heard())
                    try channel.pipeline.syncOperations.addHandler(HearingHandler(heard))
                    sockets.withLockedValue { $0.append(TestSocket(channel: channel, heard: heard)) }
                }
            }
            .bind(host: "127.0.0.1", port: port).get()
        return TestServer(channel: channel, sockets: sockets)
    }

    func close() async {
        try? await self.channel.close()
        for socket in self.accepted {
            await socket.close()
        }
    }
}

/// Waits until `condition` holds, and fails after 10 s.
func eventually(
    _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: @Sendable () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(10)
    while try await !condition() {
        if ContinuousClock.now > deadline {
            Issue.record("not within 10 s: \(what)", sourceLocation: sourceLocation)
            throw TookTooLong(what: what)
        }
        try await Task.sleep(for: .milliseconds(1))
    }
}

/// A connection that the other side resets at once. The RST may come before the caller has seen that it was connected.
func expectReset(connectingTo port: Int, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let socket: TestSocket
    do {
        socket = try await TestSocket.connect(to: port)
    } catch let error as NIOConnectionError {
        let cause = error.connectionErrors.first?.error as? IOError
        #expect(cause?.errnoCode == ECONNRESET, sourceLocation: sourceLocation)
        return
    }
    try await eventually("reset", sourceLocation: sourceLocation) { socket.heard.end == .reset }
}

/// The value that `read` comes to rest at: the same twice, 200 ms apart, in which an unhindered stream on the loopback
/// moves a hundred megabytes.
///
/// - Parameter expected: there is no need to wait any longer when it is reached.
func settled(at expected: Int? = nil, _ read: @Sendable () async throws -> Int) async throws -> Int {
    var value = try await read()
    while true {
        var next = value
        // Counted, not timed: a machine that has no time for the proxy has none for this loop either.
        for _ in 0..<200 {
            next = try await read()
            if next == expected { return next }
            try await Task.sleep(for: .milliseconds(1))
        }
        if next == value { return value }
        value = next
    }
}

struct TookTooLong: Error {
    let what: String
}

/// A client, a server and the proxy between them, one connection through it open.
struct Connected: Sendable {
    let server: TestServer
    let proxy: FaultProxy
    let client: TestSocket
    let accepted: TestSocket
}

/// Runs `body` with an open connection through a proxy and closes everything afterwards.
///
/// - Parameter settings: without a server: it is put in.
func withConnection(
    _ settings: FaultProxy.Configuration = .toTestServer,
    _ body: (Connected) async throws -> Void
) async throws {
    let server = try await TestServer.start()
    var configuration = settings
    configuration.serverPort = server.port
    let proxy = try await FaultProxy.start(configuration)
    let client = try await TestSocket.connect(to: proxy.port)
    do {
        try await eventually("the connection reaches the server") { server.accepted.count == 1 }
        try await body(Connected(server: server, proxy: proxy, client: client, accepted: server.accepted[0]))
    } catch {
        await closeAll(server, proxy, client)
        throw error
    }
    await closeAll(server, proxy, client)
}

private func closeAll(_ server: TestServer, _ proxy: FaultProxy, _ client: TestSocket) async {
    await client.close()
    await proxy.shutdown()
    await server.close()
    let left = await proxy.statistics.connectionsOpen
    #expect(left == 0)
}

extension FaultProxy.Configuration {
    static let toTestServer = FaultProxy.Configuration(serverHost: "127.0.0.1", serverPort: 0)
}
