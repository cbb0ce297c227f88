import HoldfastServer
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypesHTTP1
import NIOPosix
import NIOWebSocket

/// The road that the gateway did not take: SwiftNIO's typed upgrade, and an asynchronous channel with a task for every
/// WebSocket, as Hummingbird's own WebSocket package has it. Answers each text message with itself.
enum TaskPerConnectionServer {
    static func run(on group: MultiThreadedEventLoopGroup) async throws {
        var logger = Logger(label: "reference")
        logger.logLevel = .error
        let router = Router()
        router.get("metrics") { _, _ in ProcessUsage.current.metrics + "holdfast_writes_total 0\n" }
        let application = Application(
            router: router,
            server: HTTPServerBuilder { responder in TaskChannel(http: HTTP1Channel(responder: responder)) },
            configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { printNow("listening on http://127.0.0.1:\($0.localAddress?.port ?? 0)") },
            eventLoopGroupProvider: .shared(group),
            logger: logger
        )
        try await application.run()
    }
}

private struct TaskChannel: ServerChildChannel {
    enum Upgraded {
        case webSocket(NIOAsyncChannel<WebSocketFrame, WebSocketFrame>)
        case http(HTTP1Channel.Value)
    }

    struct Value: ServerChildChannelValue {
        let channel: any Channel
        let result: EventLoopFuture<Upgraded>
    }

    let http: HTTP1Channel

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let upgrader = NIOTypedWebSocketServerUpgrader<Upgraded>(
                maxFrameSize: 1 << 20,
                shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture([:]) },
                upgradePipelineHandler: { channel, _ in
                    channel.eventLoop.makeCompletedFuture {
                        .webSocket(try NIOAsyncChannel(wrappingChannelSynchronously: channel))
                    }
                }
            )
            let configuration = NIOTypedHTTPServerUpgradeConfiguration<Upgraded>(
                upgraders: [upgrader],
                notUpgradingCompletionHandler: { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(HTTP1ToHTTPServerCodec(secure: false))
                        return .http(
                            try NIOAsyncChannel(
                                wrappingChannelSynchronously: channel,
                                configuration: .init(isOutboundHalfClosureEnabled: true)
                            ))
                    }
                }
            )
            let result = try channel.pipeline.syncOperations.configureUpgradableHTTPServerPipeline(
                configuration: .init(upgradeConfiguration: configuration)
            )
            return Value(channel: channel, result: result)
        }
    }

    func handle(value: Value, logger: Logger) async {
        switch try? await value.result.get() {
        case .webSocket(let channel): await self.echo(channel)
        case .http(let channel): await self.http.handle(value: channel, logger: logger)
        case nil: break
        }
    }

    private func echo(_ channel: NIOAsyncChannel<WebSocketFrame, WebSocketFrame>) async {
        try? await channel.executeThenClose { inbound, outbound in
            for try await frame in inbound where frame.opcode == .text {
                try await outbound.write(WebSocketFrame(fin: true, opcode: .text, data: frame.unmaskedData))
            }
        }
    }
}
