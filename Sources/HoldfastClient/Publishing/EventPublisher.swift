import AsyncHTTPClient
import Foundation
import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOHTTP1
import Synchronization

extension HoldfastClient {
    /// The gateway has accepted a publication.
    public struct Published: Sendable, Equatable {
        /// Names the publication, for the gateway's traces.
        public let id: String?
        /// Where it stands in the topic's stream; `nil`: a topic without history.
        public let position: Position?
        /// The answer as it came, JSON.
        public let answer: ByteBuffer
    }
}

/// Publishes events through a gateway's API. For backends; needs no connection of its own.
public struct EventPublisher: Sendable {
    private let url: GatewayURL
    private let apiKey: String?
    private let headers: [String: String]
    private let http: HTTP
    /// How long one publication may take, all tries together.
    public var timeout = Duration.seconds(10)
    /// How often it is made where the gateway cannot be reached or has no time. It is accepted once all the same.
    public var tries = 3

    /// A publisher for this gateway.
    /// - Parameters:
    ///   - url: the gateway.
    ///   - apiKey: `api.key` of the gateway, if it has one.
    /// - Throws: ``GatewayURL/Invalid``.
    public init(url: String, apiKey: String? = nil) throws(GatewayURL.Invalid) {
        var configuration = try ClientConfiguration(url: url)
        configuration.apiKey = apiKey
        self.init(configuration)
    }

    init(_ configuration: ClientConfiguration) {
        self.url = configuration.url
        self.apiKey = configuration.apiKey
        self.headers = configuration.headers
        self.http = HTTP(configuration)
    }

    /// Publishes to all subscribers.
    /// - Parameters:
    ///   - data: one JSON value, which goes out as it is.
    ///   - subscription: `service.topic`.
    ///   - idempotencyKey: a publication with the same key is accepted once, so it can be repeated. `nil`: none, and one try.
    /// - Throws: ``HoldfastError``: what the gateway answered (`refused` where it gave no code), `unreachable`, or `unencodable`.
    @discardableResult
    public func publish(
        _ data: ByteBuffer,
        to subscription: String,
        idempotencyKey: String? = UUID().uuidString
    ) async throws -> HoldfastClient.Published {
        try data.checkJSON(for: subscription)
        let body = JSONWriter.object { json in
            json.member("subscription", subscription)
            json.member("data", raw: data)
            if let idempotencyKey { json.member("idempotency_key", idempotencyKey) }
        }
        var request = HTTPClientRequest(url: self.url.http("/api/publish"))
        request.method = .POST
        for (name, value) in self.headers { request.headers.add(name: name, value: value) }
        if let apiKey { request.headers.replaceOrAdd(name: "Authorization", value: "Bearer \(apiKey)") }
        request.headers.replaceOrAdd(name: "Content-Type", value: "application/json")
        request.body = .bytes(body)
        return try await self.perform(request, tries: idempotencyKey == nil ? 1 : max(1, self.tries))
    }

    /// Publishes a value as JSON. See ``publish(_:to:idempotencyKey:)``.
    @discardableResult
    public func publish(
        _ payload: some Encodable & Sendable,
        to subscription: String,
        idempotencyKey: String? = UUID().uuidString,
        encoder: JSONEncoder = JSONEncoder()
    ) async throws -> HoldfastClient.Published {
        try await self.publish(
            try HoldfastClient.encode(payload, of: subscription, using: encoder), to: subscription,
            idempotencyKey: idempotencyKey)
    }

    private func perform(_ request: HTTPClientRequest, tries: Int) async throws -> HoldfastClient.Published {
        let deadline = ContinuousClock.now + self.timeout
        var problem = HoldfastError(code: "unreachable", text: "There was no time to ask the gateway.")
        for number in 1...tries {
            let left = ContinuousClock.now.duration(to: deadline)
            guard left > .zero else { break }
            var pause = Duration.seconds(Double.random(in: 0...0.2 * Double(number)))
            do {
                let (response, answer) = try await self.ask(request, within: left)
                guard response.status != .ok else {
                    let event = WireEvent(answer)
                    return HoldfastClient.Published(id: event.id, position: event.position, answer: answer)
                }
                problem = Self.refusal(response.status, answer)
                guard [.badGateway, .serviceUnavailable, .gatewayTimeout].contains(response.status) else { break }
                if let seconds = response.headers.first(name: "retry-after").flatMap(Int.init) {
                    pause += .seconds(seconds)
                }
            } catch let error as CancellationError {
                throw error
            } catch {
                problem = HoldfastError(
                    code: "unreachable", text: "No gateway answers at \(self.url.http("")): \(describe(error)).")
            }
            // Waiting beyond the end would only make the answer late.
            guard ContinuousClock.now + pause < deadline, number < tries else { break }
            try await Task.sleep(for: pause)
        }
        throw problem
    }

    /// The client's own timeout ends with the answer's head.
    private func ask(
        _ request: HTTPClientRequest,
        within limit: Duration
    ) async throws -> (HTTPClientResponse, ByteBuffer) {
        let client = self.http.client
        return try await withThrowingTaskGroup { tasks in
            tasks.addTask {
                let response = try await client.execute(request, timeout: TimeAmount(limit))
                return (response, try await response.body.collect(upTo: 1 << 20))
            }
            tasks.addTask {
                try await Task.sleep(for: limit)
                throw HTTPClientError.deadlineExceeded
            }
            defer { tasks.cancelAll() }
            guard let answer = try await tasks.next() else { throw CancellationError() }
            return answer
        }
    }

    private static func refusal(_ status: HTTPResponseStatus, _ answer: ByteBuffer) -> HoldfastError {
        let event = WireEvent(answer)
        let text = event.error ?? String(String(buffer: answer).prefix(200))
        return HoldfastError(
            event, code: "refused", text: "The gateway answered \(status.code) \(status.reasonPhrase): \(text)")
    }
}

/// An HTTP client that is made when it is needed, and shut down when it is not any more.
private final class HTTP: Sendable {
    private let configuration: ClientConfiguration
    private let made = Mutex<HTTPClient?>(nil)

    init(_ configuration: ClientConfiguration) {
        self.configuration = configuration
    }

    var client: HTTPClient {
        self.made.withLock { made in
            if let made { return made }
            let client = self.configuration.makeHTTPClient()
            made = client
            return client
        }
    }

    deinit {
        guard let client = self.made.withLock({ $0 }) else { return }
        Task { try? await client.shutdown() }
    }
}
