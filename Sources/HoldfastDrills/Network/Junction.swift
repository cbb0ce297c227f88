import NIOCore
import NIOPosix
import Synchronization

/// A port that leads to one of several servers, as a balancer's does: connections stay where they were made, new ones
/// go to the server that is named last.
final class Junction: Sendable {
    let port: Int
    private let listener: any Channel
    private let target: Mutex<Int>
    private let accepted = Mutex<[ObjectIdentifier: any Channel]>([:])

    /// - Parameter target: a port of this machine.
    static func start(to target: Int) async throws -> Junction {
        let shared = Holder()
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 4096)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            // Nothing is read before there is somebody to give it to.
            .childChannelOption(.autoRead, value: false)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                guard let junction = shared.junction else { return channel.close() }
                return junction.lead(channel)
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let junction = Junction(listener, target)
        shared.set(junction)
        return junction
    }

    private final class Holder: Sendable {
        private let value = Mutex<Junction?>(nil)
        var junction: Junction? { self.value.withLock { $0 } }
        func set(_ junction: Junction) { self.value.withLock { $0 = junction } }
    }

    private init(_ listener: any Channel, _ target: Int) {
        self.listener = listener
        self.port = listener.localAddress?.port ?? 0
        self.target = Mutex(target)
    }

    /// New connections go there.
    func lead(to port: Int) { self.target.withLock { $0 = port } }

    private func lead(_ client: any Channel) -> EventLoopFuture<Void> {
        let port = self.target.withLock { $0 }
        let key = ObjectIdentifier(client)
        self.accepted.withLock { $0[key] = client }
        client.closeFuture.whenComplete { _ in self.accepted.withLock { _ = $0.removeValue(forKey: key) } }
        return ClientBootstrap(group: client.eventLoop)
            .channelOption(.autoRead, value: false)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connect(host: "127.0.0.1", port: port)
            .flatMap { server in
                client.eventLoop.makeCompletedFuture {
                    try client.pipeline.syncOperations.addHandler(GlueHandler(to: server))
                    try server.pipeline.syncOperations.addHandler(GlueHandler(to: client))
                    server.setOption(.autoRead, value: true).whenFailure { _ in server.close(promise: nil) }
                    // Of a channel that is not registered yet it takes effect when it is.
                    client.setOption(.autoRead, value: true).whenFailure { _ in client.close(promise: nil) }
                }
            }
    }

    func shutdown() async {
        // A second call finds it closed.
        try? await self.listener.close()
        for channel in self.accepted.withLock({ Array($0.values) }) { channel.close(promise: nil) }
    }
}

/// Gives what comes to the other channel, and ends with it. Both are of one loop.
private final class GlueHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let other: any Channel

    init(to other: any Channel) {
        self.other = other
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.other.writeAndFlush(self.unwrapInboundIn(data), promise: nil)
    }

    /// The other one's reader is slow: this one's writer is not read until it has caught up.
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        let isWritable = context.channel.isWritable
        self.other.setOption(.autoRead, value: isWritable).whenFailure { _ in }
        context.fireChannelWritabilityChanged()
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.other.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
