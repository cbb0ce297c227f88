import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// An HTTP server that changes the faults of a proxy while it runs, for tests in browsers and for people: see
/// `docs/faults.md`.
///
/// It asks nobody who they are. Listen where only you can connect.
public final class FaultControl: Sendable {
    public let port: Int
    private let listener: any Channel

    /// Connections at a time; one more is closed.
    public static let connectionLimit = 100

    private init(listener: any Channel) {
        self.listener = listener
        self.port = listener.localAddress?.port ?? 0
    }

    /// - Parameters:
    ///   - origins: pages that may use it besides its own, as browsers write them: `http://127.0.0.1:3000`.
    /// - Throws: the system's error if the address cannot be listened on.
    public static func start(
        of proxy: FaultProxy, log: EventLog, host: String = "127.0.0.1", port: Int = 0, origins: [String] = [],
        on loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    ) async throws -> FaultControl {
        let api = ControlAPI(proxy: proxy, log: log, origins: origins)
        return try await loop.flatSubmit {
            let count = NIOLoopBound(ConnectionCount(), eventLoop: loop)
            return ServerBootstrap(group: loop)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        guard count.value.open < Self.connectionLimit else {
                            return channel.close(promise: nil)
                        }
                        count.value.open += 1
                        channel.closeFuture.assumeIsolated().whenComplete { _ in count.value.open -= 1 }
                        let pipeline = channel.pipeline.syncOperations
                        try pipeline.addHandler(IdleStateHandler(allTimeout: .seconds(60)))
                        try pipeline.configureHTTPServerPipeline()
                        try pipeline.addHandler(ControlHandler(api: api))
                    }
                }
                .bind(host: host, port: port)
                .map { FaultControl(listener: $0) }
        }.get()
    }

    public func shutdown() async {
        // A second call finds it closed.
        try? await self.listener.close()
    }
}

private final class ConnectionCount {
    var open = 0
}

/// Collects a request and writes what the API answers. NIO's pipeline handler lets one request in at a time.
private final class ControlHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let api: ControlAPI
    private var request: ControlRequest?
    private var isKeptAlive = true
    private var isTooLarge = false

    init(api: ControlAPI) {
        self.api = api
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch self.unwrapInboundIn(data) {
        case .head(let head):
            self.isKeptAlive = head.isKeepAlive
            self.isTooLarge = false
            self.request = ControlRequest(
                method: head.method.rawValue, target: head.uri, host: head.headers.first(name: "host"),
                origin: head.headers.first(name: "origin"))
        case .body(let bytes):
            guard let size = self.request?.body.count, size + bytes.readableBytes <= ControlAPI.bodyLimit else {
                self.isTooLarge = true
                return
            }
            self.request?.body.append(contentsOf: bytes.readableBytesView)
        case .end: self.answer(context)
        }
    }

    private func answer(_ context: ChannelHandlerContext) {
        guard let request = self.request else { return }
        self.request = nil
        if self.isTooLarge {
            return self.write(.error(413, "a body has at most \(ControlAPI.bodyLimit) bytes"), to: context)
        }
        let api = self.api
        let answer = context.eventLoop.makePromise(of: ControlAnswer.self)
        answer.completeWithTask { await api.answer(request) }
        answer.futureResult.assumeIsolated().whenSuccess { self.write($0, to: context) }
    }

    private func write(_ answer: ControlAnswer, to context: ChannelHandlerContext) {
        guard context.channel.isActive else { return }
        var headers = HTTPHeaders(answer.headers)
        if answer.status != 204 { headers.add(name: "Content-Length", value: String(answer.body.count)) }
        if !self.isKeptAlive { headers.add(name: "Connection", value: "close") }
        let head = HTTPResponseHead(
            version: .http1_1, status: HTTPResponseStatus(statusCode: answer.status), headers: headers)
        context.write(self.wrapOutboundOut(.head(head)), promise: nil)
        if !answer.body.isEmpty {
            context.write(self.wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: answer.body)))), promise: nil)
        }
        let end = context.writeAndFlush(self.wrapOutboundOut(.end(nil)))
        if !self.isKeptAlive {
            end.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
