import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

@testable import RESP

/// A server that answers what a test tells it to: what a real one says only in bad moments.
final class FakeServer: Sendable {
    private let answer: @Sendable ([String]) -> String?
    private let port = NIOLockedValueBox(0)
    private let children = NIOLockedValueBox<[any Channel]>([])

    var address: RESPServerAddress { .hostname("127.0.0.1", port: self.port.withLockedValue { $0 }) }
    /// Connections that were taken so far.
    var connections: Int { self.children.withLockedValue { $0.count } }
    var openConnections: Int { self.children.withLockedValue { $0.count { $0.isActive } } }

    /// - Parameter answer: bytes for the words of a command; empty for none, `nil` closes the connection.
    init(_ answer: @escaping @Sendable ([String]) -> String?) {
        self.answer = answer
    }

    /// Listens while the body runs.
    func use(_ body: (FakeServer) async throws -> Void) async throws {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                self.children.withLockedValue { $0.append(channel) }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(FakeHandler(self.answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        self.port.withLockedValue { $0 = channel.localAddress?.port ?? 0 }
        do {
            try await body(self)
        } catch {
            await self.close(channel)
            throw error
        }
        await self.close(channel)
    }

    private func close(_ channel: any Channel) async {
        try? await channel.close().get()
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
