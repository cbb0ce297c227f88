import HoldfastClient
import HoldfastCore
import HoldfastServer
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

/// A proxy that knows CONNECT and what AsyncHTTPClient says for plain HTTP, and asks for a password.
private final class ConnectProxy: Sendable {
    let port: Int
    private let channel: any Channel
    /// The first lines of what it was asked.
    let requests: NIOLockedValueBox<[String]>

    private init(channel: any Channel, requests: NIOLockedValueBox<[String]>) {
        self.channel = channel
        self.port = channel.localAddress?.port ?? 0
        self.requests = requests
    }

    /// - Parameter answer: instead of a tunnel.
    static func start(answer: String? = nil) async throws -> ConnectProxy {
        let requests = NIOLockedValueBox<[String]>([])
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(TunnelHandler(requests, answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return ConnectProxy(channel: channel, requests: requests)
    }

    func stop() async { try? await self.channel.close() }
}

/// Reads one CONNECT, and from then on hands over bytes.
private final class TunnelHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let requests: NIOLockedValueBox<[String]>
    private let answer: String?
    private var head = ByteBuffer()
    private var other: (any Channel)?
    private var isConnecting = false

    init(_ requests: NIOLockedValueBox<[String]>, _ answer: String?) {
        self.requests = requests
        self.answer = answer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        if let other { return other.writeAndFlush(bytes, promise: nil) }
        self.head.writeImmutableBuffer(bytes)
        let text = String(buffer: self.head)
        guard !self.isConnecting, text.hasSuffix("\r\n\r\n"), let line = text.split(separator: "\r\n").first else {
            return
        }
        let login = text.split(separator: "\r\n").first { $0.lowercased().hasPrefix("proxy-authorization: ") }
        self.requests.withLockedValue { $0.append("\(line) \(login?.dropFirst(21) ?? "-")") }
        let parts = line.split(separator: " ")
        guard self.answer == nil, parts[0] == "CONNECT", let colon = parts[1].lastIndex(of: ":"),
            let port = Int(parts[1][parts[1].index(after: colon)...])
        else {
            let answer = self.answer ?? "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
            context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
            return context.close(promise: nil)
        }
        self.isConnecting = true
        let channel = context.channel
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        ClientBootstrap(group: context.eventLoop)
            .channelInitializer { other in
                other.eventLoop.makeCompletedFuture {
                    try other.pipeline.syncOperations.addHandler(BackHandler(channel))
                }
            }
            .connect(host: String(parts[1][..<colon]), port: port)
            .whenComplete { result in
                let (handler, context) = bound.value
                switch result {
                case .success(let other):
                    handler.other = other
                    context.writeAndFlush(
                        handler.wrapOutboundOut(ByteBuffer(string: "HTTP/1.1 200 Established\r\n\r\n")), promise: nil)
                case .failure: context.close(promise: nil)
                }
            }
    }

    func channelInactive(context: ChannelHandlerContext) { self.other?.close(promise: nil) }
}

private final class BackHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let channel: any Channel

    init(_ channel: any Channel) { self.channel = channel }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.channel.writeAndFlush(self.unwrapInboundIn(data), promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { self.channel.close(promise: nil) }
}

@Suite("Through an HTTP proxy", .timeLimit(.minutes(2)))
struct ProxyTests {
    @Test(arguments: [false, true])
    func aWebSocketGoesThroughATunnel(isEncrypted: Bool) async throws {
        try await TestCertificate.withFiles { files in
            var configuration = TestGateway.configuration
            if isEncrypted { configuration.tls = files }
            try await TestGateway.with(configuration) { it in
                let proxy = try await ConnectProxy.start()
                let scheme = isEncrypted ? "https" : "http"
                let tls = try TestCertificate.clientConfiguration()
                let client = try HoldfastClient(url: "\(scheme)://localhost:\(it.port)") {
                    $0.proxy = HTTPProxy(url: "http://ada:secret@127.0.0.1:\(proxy.port)")
                    $0.machine.transports = [.websocket]
                    $0.tls = tls
                }
                let calls = client.subscribe("calls.x")
                try await calls.ready()
                try await it.publish("calls.x", "1")
                for try await message in calls {
                    #expect(String(buffer: message.data) == "1")
                    break
                }
                #expect(
                    proxy.requests.withLockedValue { $0 } == [
                        "CONNECT localhost:\(it.port) HTTP/1.1 Basic YWRhOnNlY3JldA=="
                    ])
                client.close()
                await proxy.stop()
            }
        }
    }

    /// Over TLS, where the proxy must not read along.
    @Test(arguments: [ClientTransport.stream, .poll])
    func httpGoesThroughATunnelToo(_ transport: ClientTransport) async throws {
        try await TestCertificate.withFiles { files in
            var configuration = TestGateway.configuration
            configuration.tls = files
            try await TestGateway.with(configuration) { it in
                let proxy = try await ConnectProxy.start()
                let tls = try TestCertificate.clientConfiguration()
                let client = try HoldfastClient(url: "https://localhost:\(it.port)") {
                    $0.proxy = HTTPProxy(host: "127.0.0.1", port: proxy.port)
                    $0.machine.transports = [transport]
                    $0.tls = tls
                }
                let calls = client.subscribe("calls.x")
                try await calls.ready()
                try await it.publish("calls.x", "1")
                for try await _ in calls { break }
                let requests = proxy.requests.withLockedValue { $0 }
                #expect(Set(requests) == ["CONNECT localhost:\(it.port) HTTP/1.1 -"])
                client.close()
                await proxy.stop()
            }
        }
    }

    @Test func aProxyThatRefusesIsNamed() async throws {
        let proxy = try await ConnectProxy.start(
            answer: "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        let client = try HoldfastClient(url: "http://localhost:1") {
            $0.proxy = HTTPProxy(host: "127.0.0.1", port: proxy.port)
            $0.machine.transports = [.websocket]
        }
        client.connect()
        for await change in client.states where change.state == .reconnecting {
            #expect(change.detail == "the proxy answered 407 Proxy Authentication Required")
            break
        }
        client.close()
        await proxy.stop()
    }

    /// Its certificate would be compared with the proxy's address.
    @Test func anEncryptedGatewayNeedsAName() async throws {
        let proxy = try await ConnectProxy.start()
        let client = try HoldfastClient(url: "https://127.0.0.1:1") {
            $0.proxy = HTTPProxy(host: "127.0.0.1", port: proxy.port)
            $0.machine.transports = [.websocket]
        }
        client.connect()
        for await change in client.states where change.state == .reconnecting {
            #expect(change.detail == "through a proxy, an encrypted gateway needs a host name, not 127.0.0.1")
            break
        }
        client.close()
        await proxy.stop()
    }

    @Test func aProxyThatIsNotThereIsNamed() async throws {
        let nobody = try RefusingPort()
        defer { withExtendedLifetime(nobody) {} }
        let port = nobody.port
        let client = try HoldfastClient(url: "http://localhost:1") {
            $0.proxy = HTTPProxy(host: "127.0.0.1", port: port)
            $0.machine.transports = [.websocket]
        }
        client.connect()
        for await change in client.states where change.state == .reconnecting {
            #expect(change.detail == "the proxy: the connection was refused")
            break
        }
        client.close()
    }

    @Test func itsAddressIsReadAsInTheEnvironment() {
        #expect(HTTPProxy(url: "http://proxy.example.com:3128") == HTTPProxy(host: "proxy.example.com", port: 3128))
        #expect(HTTPProxy(url: "http://[::1]:3128") == HTTPProxy(host: "::1", port: 3128))
        #expect(HTTPProxy(url: "http://proxy.example.com")?.port == 80)
        #expect(
            HTTPProxy(url: "http://a:b%40c@h:1")
                == HTTPProxy(host: "h", port: 1, login: .init(user: "a", password: "b@c")))
        for text in ["https://h:1", "socks5://h:1", "h:1", "", "http://"] { #expect(HTTPProxy(url: text) == nil) }
        #expect("\(HTTPProxy.Login(user: "a", password: "secret"))" == "a:…")
    }
}
