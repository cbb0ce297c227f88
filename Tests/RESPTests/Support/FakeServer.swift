import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

@testable import RESP

/// A server that answers what a test tells it to: what a real one says only in bad moments.
final class FakeServer: Sendable {
    private let channel: any Channel
    private let children: NIOLockedValueBox<[any Channel]>

    var address: RESPServerAddress { .hostname("127.0.0.1", port: self.channel.localAddress?.port ?? 0) }
    /// Connections that were taken so far.
    var connections: Int { self.children.withLockedValue { $0.count } }
    var openConnections: Int { self.children.withLockedValue { $0.count { $0.isActive } } }

    private init(channel: any Channel, children: NIOLockedValueBox<[any Channel]>) {
        self.channel = channel
        self.children = children
    }

    /// - Parameter answer: bytes for the words of a command; empty for none, `nil` closes the connection.
    static func with(
        _ answer: @escaping @Sendable ([String]) -> String?,
        _ body: (FakeServer) async throws -> Void
    ) async throws {
        let children = NIOLockedValueBox<[any Channel]>([])
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                children.withLockedValue { $0.append(channel) }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(FakeHandler(answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let server = FakeServer(channel: channel, children: children)
        do {
            try await body(server)
        } catch {
            await server.close()
            throw error
        }
        await server.close()
    }

    func write(_ bytes: String) {
        for child in self.children.withLockedValue({ $0 }) { child.writeAndFlush(ByteBuffer(string: bytes), promise: nil) }
    }

    private func close() async {
        try? await self.channel.close().get()
        for child in self.children.withLockedValue({ $0 }) { try? await child.close().get() }
    }
}

private final class FakeHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let answer: @Sendable ([String]) -> String?
    private var parser = RESPParser()

    init(_ answer: @escaping @Sendable ([String]) -> String?) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.parser.append(self.unwrapInboundIn(data))
        while case .array(let words)? = try? self.parser.next() {
            guard let answer = self.answer(words.compactMap(\.string)) else { return context.close(promise: nil) }
            context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
        }
    }
}
