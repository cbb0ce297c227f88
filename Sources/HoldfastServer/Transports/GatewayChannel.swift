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

/// Sets up accepted connections: HTTP, whose requests go to Hummingbird, until one asks for a WebSocket.
///
/// Hummingbird's own child channel would run every WebSocket as an asynchronous channel with a task of its own; what that
/// costs per connection is measured in docs/performance.md. Here a WebSocket is one handler and no task.
struct GatewayChannel: ServerChildChannel {
    struct Value: ServerChildChannelValue {
        let channel: any Channel
    }

    let http: HTTP1Channel
    let gateway: Gateway
    let tls: NIOSSLContext?

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            if let tls = self.tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
            // Events are small and must not wait for each other (RFC 896 would hold them back).
            channel.setOption(.tcpOption(.tcp_nodelay), value: 1).whenFailure { _ in }
            guard let shard = self.gateway.shard(of: channel.eventLoop) else { throw ForeignEventLoop() }
            try HTTPFront.install(in: pipeline, shard: shard, logger: logger, isSecure: self.tls != nil) {
                [http] channel in
                // Ends with the connection, which the server waits for when it stops.
                Task { await http.handle(value: channel, logger: logger) }
            }
            return Value(channel: channel)
        }
    }

    /// Nothing to wait for: a task that waits for a request that Hummingbird may never see would cost every outstanding poll
    /// more than a kilobyte.
    func handle(value: Value, logger: Logger) async {}

    /// The server accepts on loops that the gateway was not made with.
    private struct ForeignEventLoop: Error, CustomStringConvertible {
        var description: String { "the gateway and the server must be given the same event loop group" }
    }
}
