import HoldfastProtocol
import HoldfastServer
import NIOCore
import NIOPosix

/// The floor of a benchmark: a WebSocket fan-out that keeps nothing and checks nothing.
///
/// What one turn of the loop has is merged once and written to every subscriber. Knows as much HTTP as the benchmarks
/// speak, and nothing of HTTP's rules.
enum PrototypeServer {
    static func run(on group: MultiThreadedEventLoopGroup) async throws {
        let loop = group.next()
        let hub = try await loop.submit { NIOLoopBound(PrototypeHub(loop: loop), eventLoop: loop) }.get()
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(PrototypeConnection(hub.value))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        printNow("listening on http://127.0.0.1:\(channel.localAddress?.port ?? 0)")
        try await channel.closeFuture.get()
    }
}

/// All subscribers, and what this turn of the loop has for them.
private final class PrototypeHub {
    private let loop: any EventLoop
    private var subscribers: [PrototypeConnection] = []
    private var waiting = ByteBuffer()
    private var offset: UInt64 = 0
    private(set) var writes = 0

    init(loop: any EventLoop) {
        self.loop = loop
    }

    func add(_ connection: PrototypeConnection) { self.subscribers.append(connection) }

    func publish(_ data: ByteBuffer) {
        self.offset += 1
        // As many bytes as the gateway's event has.
        var event = ByteBuffer(
            string: "{\"event\":\"message\",\"subscription\":\"bench.fanout\",\"offset\":\(self.offset),\"data\":")
        event.writeImmutableBuffer(data)
        event.writeString("}")
        let isFirst = self.waiting.readableBytes == 0
        self.waiting.writeImmutableBuffer(WebSocketFrame.unmasked(.text, event))
        guard isFirst else { return }
        let bound = NIOLoopBound(self, eventLoop: self.loop)
        self.loop.execute { bound.value.flush() }
    }

    private func flush() {
        let frames = self.waiting
        self.waiting = ByteBuffer()
        self.writes += self.subscribers.count
        for subscriber in self.subscribers { subscriber.write(frames) }
    }
}

private final class PrototypeConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let hub: PrototypeHub
    private var context: ChannelHandlerContext?
    private var held = ByteBuffer()
    private var webSocket: WebSocketParser?

    init(_ hub: PrototypeHub) {
        self.hub = hub
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func write(_ bytes: ByteBuffer) {
        self.context?.writeAndFlush(NIOAny(bytes), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var input = self.unwrapInboundIn(data)
        guard self.webSocket == nil else {
            self.webSocket?.append(input)
            return self.readFrames()
        }
        self.held.writeBuffer(&input)
        while self.webSocket == nil, self.readRequest() {}
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func readFrames() {
        while let message = try? self.webSocket?.next() {
            guard case .text(let text) = message else { continue }
            if String(buffer: text).contains("\"subscribe\"") { self.hub.add(self) }
            self.write(WebSocketFrame.unmasked(.text, ByteBuffer(string: "{}")))
        }
    }

    /// - Returns: whether there was a whole request.
    private func readRequest() -> Bool {
        let view = self.held.readableBytesView
        guard let end = view.firstRange(of: Array("\r\n\r\n".utf8)) else { return false }
        let lines = String(decoding: view[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
        func header(_ name: String) -> String? {
            lines.first { $0.lowercased().hasPrefix(name + ":") }?.split(separator: " ").last.map(String.init)
        }
        let length = header("content-length").flatMap { Int($0) } ?? 0
        guard view.endIndex - end.upperBound >= length else { return false }
        self.held.moveReaderIndex(to: end.upperBound)
        let body = self.held.readSlice(length: length) ?? ByteBuffer()
        if self.held.readableBytes == 0 { self.held = ByteBuffer() }
        if let key = header("sec-websocket-key") {
            self.webSocket = WebSocketParser(role: .server, maxFrameBytes: 1 << 20, maxMessageBytes: 1 << 20)
            self.write(
                ByteBuffer(
                    string: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        + "Sec-WebSocket-Accept: \(WebSocketHandshake.accept(key: key))\r\n\r\n"))
        } else if lines[0].hasPrefix("POST") {
            if let data = body.readableBytesView.firstRange(of: Array("\"data\":".utf8)),
                let slice = body.getSlice(at: data.upperBound, length: body.writerIndex - data.upperBound - 1)
            {
                self.hub.publish(slice)
            }
            self.answer("{\"status\":\"ok\"}")
        } else {
            self.answer(ProcessUsage.current.metrics + "holdfast_writes_total \(self.hub.writes)\n")
        }
        return true
    }

    private func answer(_ body: String) {
        self.write(ByteBuffer(string: "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"))
    }
}
