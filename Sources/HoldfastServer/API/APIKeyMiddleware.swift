import HTTPTypes
import Hummingbird

/// Lets only those in who present the key. Without a configured key the API is closed, except for development on loopback.
struct APIKeyMiddleware<Context: RequestContext>: RouterMiddleware {
    let configuration: Configuration

    func handle(
        _ request: Request,
        context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        guard let key = self.configuration.api.key else {
            guard self.configuration.isDevelopment, self.configuration.isLoopback else {
                throw APIError(
                    .forbidden,
                    "The server API is closed: set api.key or HOLDFAST_API_KEY to open it.",
                    code: "api_closed"
                )
            }
            // Without a key, a page of another origin that the developer has open could publish through the browser.
            guard Self.isSameOrigin(request), Self.isForThisMachine(request) else {
                throw APIError(
                    .forbidden, "Without a key, pages of other origins are not let in.", code: "foreign_origin")
            }
            return try await next(request, context)
        }
        // The scheme's name has no case (RFC 9110 §11.1).
        guard let header = request.headers[.authorization], header.prefix(7).lowercased() == "bearer ",
            Self.isEqual(header.dropFirst(7).utf8, key.utf8)
        else {
            throw APIError(.unauthorized, "Present the key as Authorization: Bearer KEY.", code: "unauthorized")
        }
        return try await next(request, context)
    }

    /// Whether the request comes from no page, or from one that this gateway served.
    private static func isSameOrigin(_ request: Request) -> Bool {
        guard let origin = request.headers[.origin] else { return true }
        guard let host = request.head.authority, let start = origin.firstRange(of: "://") else { return false }
        return origin[start.upperBound...] == host
    }

    /// Whether the request names this machine, and not a name of the attacker's that leads here (DNS rebinding).
    private static func isForThisMachine(_ request: Request) -> Bool {
        guard let host = request.head.authority?.lowercased() else { return true }
        // A name without a dot is nobody's in public DNS.
        let name = host.hasPrefix("[") ? host.prefix { $0 != "]" } + "]" : host.prefix { $0 != ":" }
        guard name.contains(".") else { return !name.hasPrefix("[") || name == "[::1]" }
        return name.hasPrefix("127.") && name.allSatisfy { $0.isNumber || $0 == "." }
    }

    /// Takes the same time wherever the two differ; only the length of the key can be told from it.
    private static func isEqual(_ left: Substring.UTF8View, _ right: String.UTF8View) -> Bool {
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
