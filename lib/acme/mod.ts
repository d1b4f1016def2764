/**
 * Certificates of authorities that speak ACME (RFC 8555), such as Let's Encrypt.
 *
 * @module
 */
export { automaticCertificates } from "./automatic.ts";
export type { AutomaticOptions, DnsSolver } from "./automatic_options.ts";
export { acmeClient } from "./client.ts";
export { fileStorage, type FileStorageOptions } from "./file_storage.ts";
export type { OnDemandOptions } from "./on_demand.ts";
export { redisStorage, type RedisStorageOptions } from "./redis_storage.ts";
export type { RedisClient, RedisEvents, RedisSubscriber } from "../redis_client.ts";
export type { CertificateStorage, StorageLock } from "./storage.ts";
export type { CertificateSource } from "../tls/certificate_source.ts";
export { newAccountKey } from "./jws.ts";
export { certificateId } from "./renewal_info.ts";
export type { KeyAlgorithm } from "../tls/authority_options.ts";
export * from "./types.ts";
