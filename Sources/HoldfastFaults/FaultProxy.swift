import NIOCore
import NIOPosix

/// A TCP proxy that can do to a connection what bad networks do.
///
///     let proxy = try await FaultProxy.start(.init(serverHost: "127.0.0.1", serverPort: 8080))
///     // connect to 127.0.0.1:proxy.port ...
///     await proxy.cut()
///     // ... silence: no byte, no FIN, no RST, in either direction ...
///     await proxy.restore()
///
/// While the line is whole it is a plain relay: FIN and RST are passed on as what they are, a slow reader slows the writer
/// on the other side, and memory is bounded.
///
/// What it cannot do, because it ends one TCP connection and begins another: leave bytes unacknowledged (the sender's
/// kernel believes that they have arrived, so it never times out by itself), or leave a SYN unanswered (a new connection
/// opens at once, and then nothing comes).
public final class FaultProxy: Sendable {
    /// The port that it listens on.
    public let port: Int

    let core: NIOLoopBound<ProxyCore>
    private let listener: any Channel

    private init(core: NIOLoopBound<ProxyCore>, listener: any Channel) {
        self.core = core
        self.listener = listener
        self.port = listener.localAddress?.port ?? 0
    }

    /// Starts to listen.
    ///
    /// - Parameter loop: runs all of it: the sockets, the faults, the counts.
    /// - Throws: the error of the system if the address cannot be listened on (`IOError` with `EADDRINUSE`: the port is
    ///   taken).
    public static func start(
        _ configuration: Configuration,
        on loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    ) async throws -> FaultProxy {
        try await loop.flatSubmit {
            let core = NIOLoopBound(ProxyCore(configuration: configuration, loop: loop), eventLoop: loop)
            return ServerBootstrap(group: loop)
                .serverChannelOption(.backlog, value: 1024)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .serverChannelOption(.socketOption(.so_rcvbuf), value: .init(configuration.receiveBufferSize))
                .childChannelOption(.allowRemoteHalfClosure, value: true)
                .childChannelOption(.maxMessagesPerRead, value: 1)
                .childChannelOption(.writeBufferWaterMark, value: configuration.writeWaterMark)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let handler = RelayHandler(relay: Relay(core: core.value), side: .client)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                }
                .bind(host: configuration.listenHost, port: configuration.listenPort)
                .map { FaultProxy(core: core, listener: $0) }
        }.get()
    }

    /// Cuts the line. What the proxy has not read when it returns does not pass; what it has handed to a slow reader's
    /// socket before is beyond the cut and still arrives.
    ///
    /// A connection made during the cut is accepted and waits, unread, for its SYN to get through:
    /// ``Configuration/synRepeats``. If its client gives up before, the server never hears of it.
    /// A cut of a line that is cut replaces the cut before: directions that it does not name are whole again.
    ///
    /// - Parameters:
    ///   - directions: where packets do not arrive any more.
    ///   - packets: whether what is sent meanwhile is lost or late.
    ///   - reach: whether new connections are struck too.
    public func cut(
        _ directions: Directions = .both,
        packets: CutPackets = .lost,
        reach: CutReach = .everything
    ) async {
        await self.onLoop { $0.cut(Cut(directions: directions, packets: packets), reach: reach) }
    }

    /// Makes the line whole. What becomes of the connections that were cut says ``CutPackets``.
    public func restore() async {
        await self.onLoop { $0.cut(.none, reach: .everything) }
    }

    /// All figures of one instant.
    public var statistics: Statistics {
        get async { await self.onLoop { $0.currentStatistics() } }
    }

    /// Closes the port and all connections, those of a cut line too: this they notice.
    public func shutdown() async {
        // A second call finds it closed.
        try? await self.listener.close()
        await self.onLoop { $0.shutdown() }
    }

    private func onLoop<Result: Sendable>(_ body: @escaping @Sendable (ProxyCore) -> Result) async -> Result {
        let core = self.core
        do {
            return try await core.eventLoop.submit { body(core.value) }.get()
        } catch {
            // `body` does not throw, and a loop that is shut down before its users is a mistake of the program.
            preconditionFailure("the event loop of the fault proxy has been shut down: \(error)")
        }
    }
}
