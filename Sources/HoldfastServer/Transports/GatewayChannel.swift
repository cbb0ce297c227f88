import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOSSL

extension HTTPServerBuilder {
    /// A Hummingbird server whose connections may become WebSockets of the gateway.
    ///
    /// ```swift
    /// let app = Application(router: router, server: .holdfast(gateway))
    /// ```
    /// - Throws: when the configuration's certificate or key cannot be read.
    public static func holdfast(_ gateway: Gateway) throws -> HTTPServerBuilder {
        let tls = try gateway.configuration.tls.map(NIOSSLContext.init(holdfast:))
        return HTTPServerBuilder { responder in
            GatewayChannel(http: HTTP1Channel(responder: responder), gateway: gateway, tls: tls)
        }
    }
}

extension NIOSSLContext {
    fileprivate convenience init(holdfast tls: Configuration.TLS) throws {
        let chain = try NIOSSLCertificate.fromPEMFile(tls.certificate).map { NIOSSLCertificateSource.certificate($0) }
        let key = try NIOSSLPrivateKey(file: tls.key, format: .pem)
        try self.init(configuration: .makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(key)))
    }
}

/// Sets up accepted connections: HTTP until the first request, then either Hummingbird's HTTP/1 or a WebSocket.
///
/// Hummingbird's own child channel would run every WebSocket as an asynchronous channel with a task of its own; what that
/// costs per connection is measured in docs/performance.md. Here a WebSocket is one handler and no task.
struct GatewayChannel: ServerChildChannel {
    enum Value: ServerChildChannelValue {
        case http(HTTP1Channel.Value)
        case webSocket(any Channel)

        var channel: any Channel {
            switch self {
            case .http(let value): value.channel
            case .webSocket(let channel): channel
            }
        }
    }

    let http: HTTP1Channel
    let gateway: Gateway
    let tls: NIOSSLContext?

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        let promise = channel.eventLoop.makePromise(of: Value.self)
        do {
            let pipeline = channel.pipeline.syncOperations
            if let tls = self.tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
            guard let shard = self.gateway.shard(of: channel.eventLoop) else { throw ForeignEventLoop() }
            try HTTPUpgradeHandler.install(
                in: pipeline,
                shard: shard,
                logger: logger,
                isSecure: self.tls != nil,
                promise: promise
            )
        } catch {
            promise.fail(error)
        }
        return promise.futureResult
    }

    func handle(value: Value, logger: Logger) async {
        switch value {
        case .http(let value): await self.http.handle(value: value, logger: logger)
        // Lives on its event loop from here on.
        case .webSocket: return
        }
    }

    /// The server accepts on loops that the gateway was not made with.
    private struct ForeignEventLoop: Error, CustomStringConvertible {
        var description: String { "the gateway and the server must be given the same event loop group" }
    }
}
