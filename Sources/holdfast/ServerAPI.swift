import AsyncHTTPClient
import Foundation
import HoldfastProtocol
import NIOCore
import NIOHTTP1
import NIOPosix

/// Calls of a gateway's server API.
struct ServerAPI {
    struct Answer {
        let status: UInt
        let body: String

        var isSuccess: Bool { (200..<300).contains(self.status) }
    }

    struct Unreachable: Error, CustomStringConvertible {
        let url: String
        let reason: String

        var description: String {
            "No gateway answers at \(self.url): \(self.reason).\nStart one with `holdfast serve --dev --port 8080`, or name another with --url."
        }
    }

    let url: String
    var key: String?
    var client = HTTPClient.shared

    /// - Parameter key: `nil` takes `HOLDFAST_API_KEY`.
    init(url: String, key: String? = nil) {
        self.url = url.hasSuffix("/") ? String(url.dropLast()) : url
        self.key = key ?? ProcessInfo.processInfo.environment["HOLDFAST_API_KEY"]
    }

    /// - Parameter data: one JSON value, sent byte for byte.
    func publish(_ subscription: String, data: String, idempotencyKey: String? = nil) async throws -> Answer {
        let body = JSONWriter.object { json in
            json.member("subscription", subscription)
            json.member("data", raw: ByteBuffer(string: data))
            if let idempotencyKey { json.member("idempotency_key", idempotencyKey) }
        }
        return try await self.call(.POST, "/api/publish", body: body)
    }

    func call(_ method: HTTPMethod, _ path: String, body: ByteBuffer? = nil) async throws -> Answer {
        var request = HTTPClientRequest(url: self.url + path)
        request.method = method
        if let key = self.key { request.headers.add(name: "Authorization", value: "Bearer \(key)") }
        if let body {
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(body)
        }
        do {
            let response = try await self.client.execute(request, timeout: .seconds(10))
            let text = String(buffer: try await response.body.collect(upTo: 64 << 20))
            return Answer(status: response.status.code, body: text)
        } catch {
            throw Unreachable(url: self.url, reason: Self.reason(error))
        }
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            error.connectionErrors.first.map { Self.reason($0.error) } ?? error.dnsAError.map(Self.reason) ?? "\(error)"
        case let error as IOError: String(cString: strerror(error.errnoCode)).lowercased()
        case SocketAddressError.unknown(let host, _): "the name \(host) is not known"
        case let error as HTTPClientError where error == .connectTimeout || error == .deadlineExceeded:
            "no answer within 10 s"
        default: "\(error)"
        }
    }
}
