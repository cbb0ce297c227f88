import HoldfastProtocol
import NIOCore

extension Gateway {
    /// What a gateway takes from the world besides its loops, its broker and its clients.
    package struct Surroundings: Sendable {
        package var random: @Sendable () -> UInt64 = {
            var generator = SystemRandomNumberGenerator()
            return generator.next()
        }
        /// In place of HTTP calls to the services.
        package var services: Services?

        package init() {}
    }

    /// A model of the services: is told the callback's name and body; gives an answer, or `nil` for none, on any thread.
    package typealias Services =
        @Sendable (
            _ callback: String, _ body: ByteBuffer, _ answer: @escaping @Sendable (JSONObject?) -> Void
        ) -> Void
}

/// Makes callbacks to services.
protocol CallbackCaller: Sendable {
    /// - Parameter then: called once, on any thread.
    func call(
        _ callback: Callback,
        _ url: ServiceURL,
        _ body: ByteBuffer,
        then: @escaping @Sendable (CallbackAnswer) -> Void
    )
}

extension CallbackClient: CallbackCaller {
    func call(
        _ callback: Callback,
        _ url: ServiceURL,
        _ body: ByteBuffer,
        then: @escaping @Sendable (CallbackAnswer) -> Void
    ) {
        Task { then(await self.call(callback, url, body)) }
    }
}

/// Asks a model instead of a service.
struct ServiceModel: CallbackCaller {
    let services: Gateway.Services

    func call(
        _ callback: Callback,
        _ url: ServiceURL,
        _ body: ByteBuffer,
        then: @escaping @Sendable (CallbackAnswer) -> Void
    ) {
        self.services(callback.rawValue, body) { then($0.map(CallbackAnswer.object) ?? .unavailable) }
    }
}

/// Random numbers from a function.
struct RandomSource: RandomNumberGenerator {
    let source: @Sendable () -> UInt64

    func next() -> UInt64 { self.source() }
}
