import Histogram
import NIOCore
import NIOPosix

/// Many subscribers on one event loop of their own.
final class BenchClients: Sendable {
    struct Snapshot: Sendable {
        var opened = 0
        var ready = 0
        var frames = 0
        var failures = 0
        var latency: Histogram<UInt32>
    }

    private let group: MultiThreadedEventLoopGroup
    private let loop: any EventLoop
    private let counters: NIOLoopBound<BenchCounters>
    private let host: String
    private let port: Int

    init(host: String, port: Int) async throws {
        self.group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = self.group.next()
        self.loop = loop
        self.host = host
        self.port = port
        self.counters = try await loop.submit { NIOLoopBound(BenchCounters(), eventLoop: loop) }.get()
    }

    /// Opens one connection. - Parameter isSampled: whether it measures latency.
    func open(
        _ transport: BenchTransport,
        subscription: String,
        isNative: Bool,
        isSampled: Bool
    ) -> EventLoopFuture<Void> {
        let counters = self.counters
        let host = "\(self.host):\(self.port)"
        return ClientBootstrap(group: self.loop)
            .connectTimeout(.seconds(30))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler: any ChannelHandler =
                        transport == .websocket
                        ? BenchConnection(
                            host: host, subscription: subscription, isNative: isNative, isSampled: isSampled,
                            counters: counters.value
                        )
                        : BenchHTTPConnection(
                            host: host, subscription: subscription, isStream: transport == .stream,
                            isSampled: isSampled, counters: counters.value
                        )
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
            .connect(host: self.host, port: self.port)
            .map { _ in }
    }

    func snapshot() async throws -> Snapshot {
        let counters = self.counters
        return try await self.loop.submit {
            let value = counters.value
            return Snapshot(
                opened: value.opened, ready: value.ready, frames: value.frames, failures: value.failures,
                latency: value.latency
            )
        }.get()
    }

    /// Forgets what was counted so far.
    func reset() async throws {
        let counters = self.counters
        try await self.loop.submit {
            counters.value.frames = 0
            counters.value.latency.reset()
        }.get()
    }

    func stop() async throws {
        try await self.group.shutdownGracefully()
    }
}
